#include "cpu/svd/range_basis.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "cpu/svd/gaussian.hpp"

namespace headscan {
namespace {

// Between two products only the conditioning matters: this one Cholesky leaves a basis orthogonal to 1e-4.
constexpr double kLoose = 1e6;

template <class T>
std::vector<T> narrow(const std::vector<double>& a, std::size_t rows, std::size_t columns) {
  const std::size_t ld = padded(columns), ld_out = panels(columns);
  std::vector<T> out(rows * ld_out, T{0});
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) out[i * ld_out + j] = static_cast<T>(a[i * ld + j]);
  }
  return out;
}

// y (rows, ld_y) -= q (q^T y) for the q so far. Returns the squared length of what each column of y loses.
std::vector<double> project_out(const Range& before, std::size_t rows, std::size_t ld_y, const DenseKernels& kernels,
                                std::vector<double>& y) {
  const std::size_t ld_q = padded(before.columns);
  std::vector<double> coefficients(ld_q * ld_y);
  kernels.thin_f64.multiply_transposed(before.q.data(), before.ld, y.data(), rows, ld_q, ld_y, coefficients.data());
  std::vector<double> projection(rows * ld_y);
  kernels.thin_f64.multiply(before.q.data(), before.ld, coefficients.data(), rows, ld_q, ld_y, projection.data());
  for (std::size_t i = 0; i < y.size(); ++i) y[i] -= projection[i];
  std::vector<double> lost(ld_y, 0.0);
  for (std::size_t i = 0; i < coefficients.size(); ++i) lost[i % ld_y] += coefficients[i] * coefficients[i];
  return lost;
}

// Column j of y (rows, ld) becomes Gaussian, another one for each `stream`.
void draw_column(std::uint64_t stream, std::size_t rows, std::size_t ld, std::size_t j, std::vector<double>& y) {
  std::vector<double> column(rows + rows % 2);
  fill_gaussian(0, stream * column.size(), column.size(), column.data());
  for (std::size_t i = 0; i < rows; ++i) y[i * ld + j] = column[i];
}

// An orthonormal basis whose range holds that of y less q's, orthogonal to q too; rows >= the columns of both.
// Projecting out and orthonormalising goes on until a basis comes in nearly orthogonal to q, which one more round
// makes exact. A second round does that, or a third, for whatever y shows beside q. What still lies in the range of q
// then is the arbitrary completion of a y of lower rank, often by axes, and may lie there altogether: it starts again
// as Gaussian columns.
std::vector<double> orthonormal_beside(const Range& before, std::vector<double> y, std::size_t rows,
                                       std::size_t columns, const DenseKernels& kernels) {
  // Squared length within the range of q: of all columns at most a quarter, so that the rest is well conditioned.
  const double near = 0.25 / static_cast<double>(columns);
  constexpr int kMaxPasses = 8;
  const std::size_t ld = padded(columns);
  if (before.columns == 0) return orthonormal(std::move(y), rows, columns, 0, kernels).vectors();
  for (int pass = 0; pass < kMaxPasses; ++pass) {
    const std::vector<double> lost = project_out(before, rows, ld, kernels, y);
    const bool settled = pass > 0 && std::all_of(lost.begin(), lost.end(), [&](double x) { return x < near; });
    if (pass > 1 && !settled) {
      for (std::size_t j = 0; j < columns; ++j) {
        if (lost[j] >= near) draw_column(before.columns + j, rows, ld, j, y);
      }
      project_out(before, rows, ld, kernels, y);
    }
    y = orthonormal(std::move(y), rows, columns, 0, kernels).vectors();
    if (settled) break;
  }
  return y;
}

// Lays b (rows, `added` columns) into a (rows, ld) from column `first` on.
void insert(const std::vector<double>& b, std::size_t added, std::size_t rows, std::size_t first, std::size_t ld,
            std::vector<double>& a) {
  for (std::size_t i = 0; i < rows; ++i) std::copy_n(&b[i * padded(added)], added, &a[i * ld + first]);
}

// Divides a by its largest magnitude where that is so far from 1 that squares could leave the range of float64, and
// returns by what it divided.
double scale_down(std::vector<double>& a) {
  constexpr double kFar = 1e60;
  std::array<double, kLane> lanes{};
  for (std::size_t i = 0; i < a.size(); ++i) {
    lanes[i % kLane] = std::max(lanes[i % kLane], std::abs(a[i]));  // rows are kLane long, or a multiple
  }
  const double largest = *std::max_element(lanes.begin(), lanes.end());
  if (largest == 0 || (largest > 1 / kFar && largest < kFar)) return 1;
  for (double& value : a) value /= largest;
  return largest;
}

}  // namespace

std::vector<double> identity(std::size_t n) {
  const std::size_t ld = padded(n);
  std::vector<double> out(ld * ld, 0.0);
  for (std::size_t i = 0; i < n; ++i) out[i * ld + i] = 1;
  return out;
}

template <class T>
std::vector<double> widen(const std::vector<T>& a, std::size_t rows, std::size_t ld, std::size_t columns) {
  const std::size_t ld_out = padded(columns);
  std::vector<double> out(rows * ld_out, 0.0);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < columns; ++j) out[i * ld_out + j] = static_cast<double>(a[i * ld + j]);
  }
  return out;
}

std::vector<double> times(const std::vector<double>& a, std::size_t inner, const std::vector<double>& b,
                          std::size_t rows, std::size_t ld, const DenseKernels& kernels) {
  std::vector<double> out(rows * ld);
  kernels.thin_f64.multiply(a.data(), inner, b.data(), rows, inner, ld, out.data());
  return out;
}

std::vector<double> Orthonormal::vectors() const { return headscan::times(source, ld, map, rows, ld, *kernels); }

std::vector<double> Orthonormal::times(const std::vector<double>& b, std::size_t ld_b) const {
  return headscan::times(source, ld, headscan::times(map, ld, b, ld, ld_b, *kernels), rows, ld_b, *kernels);
}

Orthonormal orthonormal(std::vector<double> a, std::size_t rows, std::size_t columns, double once_below,
                        const DenseKernels& kernels) {
  Orthonormal out;
  out.rows = rows;
  out.ld = padded(columns);
  out.scale = scale_down(a);
  out.kernels = &kernels;
  out.source = std::move(a);
  orthonormal_basis(rows, columns, once_below, kernels, out);
  return out;
}

template <class T>
Range find_range(const LargeMatrix<T>& a, const std::vector<T>& omega, std::size_t sample,
                 const RandomizedSvdOptions& options, Pool& pool) {
  const std::size_t m = a.rows(), n = a.columns(), most = std::min(m, n);
  const bool krylov = options.method == RangeMethod::krylov;
  const std::size_t blocks = krylov ? static_cast<std::size_t>(options.iterations) + 1 : 1;
  const std::size_t ld = padded(std::min(most, blocks * sample));
  Range range{0, ld, std::vector<double>(m * ld), std::vector<double>(n * ld)};
  std::size_t width = sample;
  std::vector<T> thin(std::max(m, n) * panels(width));
  a.multiply(omega.data(), panels(width), thin.data(), pool);
  for (int step = 0;; ++step) {
    const bool last = step == options.iterations;
    std::vector<double> q = widen(thin, m, panels(sample), width);
    if (krylov) {
      q = orthonormal_beside(range, std::move(q), m, width, a.kernels());
    } else {
      const double once_below = !last ? kLoose : sizeof(T) == sizeof(float) ? 1e3 : 0;
      q = orthonormal(std::move(q), m, width, once_below, a.kernels()).vectors();
    }
    a.multiply_transposed(narrow<T>(q, m, width).data(), panels(width), thin.data(), pool);
    std::vector<double> z = widen(thin, n, panels(width), width);
    if (krylov || last) {
      insert(q, width, m, range.columns, ld, range.q);
      insert(z, width, n, range.columns, ld, range.z);
      range.columns += width;
    }
    if (last || range.columns == most) return range;
    const auto back = narrow<T>(orthonormal(std::move(z), n, width, kLoose, a.kernels()).vectors(), n, width);
    a.multiply(back.data(), panels(width), thin.data(), pool);
    if (krylov) width = std::min(width, most - range.columns);
  }
}

template std::vector<double> widen<float>(const std::vector<float>&, std::size_t, std::size_t, std::size_t);
template std::vector<double> widen<double>(const std::vector<double>&, std::size_t, std::size_t, std::size_t);
template Range find_range<float>(const LargeMatrix<float>&, const std::vector<float>&, std::size_t,
                                 const RandomizedSvdOptions&, Pool&);
template Range find_range<double>(const LargeMatrix<double>&, const std::vector<double>&, std::size_t,
                                  const RandomizedSvdOptions&, Pool&);

}  // namespace headscan
