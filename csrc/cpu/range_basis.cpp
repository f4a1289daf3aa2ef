#include "cpu/range_basis.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cpu/gaussian.hpp"

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

// y (rows, ld_y) -= q (q^T y) for q (rows, ld_q). Returns the squared length of what each column of y loses.
std::vector<double> project_out(const std::vector<double>& q, std::size_t ld_q, std::size_t rows, std::size_t ld_y,
                                std::vector<double>& y) {
  std::vector<double> coefficients(ld_q * ld_y, 0.0);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t p = 0; p < ld_q; ++p) {
      const double value = q[i * ld_q + p];
      for (std::size_t j = 0; j < ld_y; ++j) coefficients[p * ld_y + j] += value * y[i * ld_y + j];
    }
  }
  std::vector<double> projection(rows * ld_y);
  dense_kernels().multiply_f64(q.data(), ld_q, coefficients.data(), rows, ld_q, ld_y, projection.data());
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
                                       std::size_t columns) {
  // Squared length within the range of q: of all columns at most a quarter, so that the rest is well conditioned.
  const double near = 0.25 / static_cast<double>(columns);
  constexpr int kMaxPasses = 8;
  const std::size_t ld_q = padded(before.columns), ld = padded(columns);
  if (before.columns == 0) return orthonormal(std::move(y), rows, columns, 0).vectors();
  for (int pass = 0; pass < kMaxPasses; ++pass) {
    const std::vector<double> lost = project_out(before.q, ld_q, rows, ld, y);
    const bool settled = pass > 0 && std::all_of(lost.begin(), lost.end(), [&](double x) { return x < near; });
    if (pass > 1 && !settled) {
      for (std::size_t j = 0; j < columns; ++j) {
        if (lost[j] >= near) draw_column(before.columns + j, rows, ld, j, y);
      }
      project_out(before.q, ld_q, rows, ld, y);
    }
    y = orthonormal(std::move(y), rows, columns, 0).vectors();
    if (settled) break;
  }
  return y;
}

// Lays b (rows, `added` columns) beside a (rows, `columns`).
void append(std::vector<double>& a, std::size_t columns, const std::vector<double>& b, std::size_t added,
            std::size_t rows) {
  const std::size_t ld_a = padded(columns), ld_b = padded(added), ld = padded(columns + added);
  std::vector<double> out(rows * ld, 0.0);
  for (std::size_t i = 0; i < rows; ++i) {
    if (columns > 0) std::copy_n(&a[i * ld_a], columns, &out[i * ld]);
    std::copy_n(&b[i * ld_b], added, &out[i * ld + columns]);
  }
  a = std::move(out);
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

std::vector<double> times(const std::vector<double>& a, const std::vector<double>& b, std::size_t rows,
                          std::size_t ld) {
  std::vector<double> out(rows * ld);
  dense_kernels().thin_f64.multiply(a.data(), ld, b.data(), rows, ld, ld, out.data());
  return out;
}

std::vector<double> Orthonormal::vectors() const { return headscan::times(source, map, rows, ld); }

std::vector<double> Orthonormal::times(const std::vector<double>& b) const {
  return headscan::times(source, headscan::times(map, b, ld, ld), rows, ld);
}

Orthonormal orthonormal(std::vector<double> a, std::size_t rows, std::size_t columns, double once_below) {
  double largest = 0;
  for (const double value : a) largest = std::max(largest, std::abs(value));
  if (largest > 0) {
    for (double& value : a) value /= largest;
  }
  Orthonormal out;
  out.rows = rows;
  out.ld = padded(columns);
  out.scale = largest > 0 ? largest : 1;
  out.source = std::move(a);
  orthonormal_basis(rows, columns, once_below, dense_kernels(), out);
  return out;
}

template <class T>
Range find_range(const LargeMatrix<T>& a, std::vector<double> sampled, std::size_t sample,
                 const RandomizedSvdOptions& options, Pool& pool) {
  const std::size_t m = a.rows(), n = a.columns();
  const bool krylov = options.method == RangeMethod::krylov;
  Range range;
  std::size_t width = sample;
  for (int step = 0;; ++step) {
    const bool last = step == options.iterations;
    std::vector<double> q;
    if (krylov) {
      q = orthonormal_beside(range, std::move(sampled), m, width);
    } else {
      const double once_below = !last ? kLoose : sizeof(T) == sizeof(float) ? 1e3 : 0;
      q = orthonormal(std::move(sampled), m, width, once_below).vectors();
    }
    std::vector<T> thin(n * panels(width));
    a.multiply_transposed(narrow<T>(q, m, width).data(), panels(width), thin.data(), pool);
    std::vector<double> z = widen(thin, n, panels(width), width);
    if (krylov || last) {
      append(range.q, range.columns, q, width, m);
      append(range.z, range.columns, z, width, n);
      range.columns += width;
    }
    const std::size_t room = krylov ? std::min(m, n) - range.columns : width;
    if (last || room == 0) return range;
    const auto back = narrow<T>(orthonormal(std::move(z), n, width, kLoose).vectors(), n, width);
    thin.resize(m * panels(width));
    a.multiply(back.data(), panels(width), thin.data(), pool);
    sampled = widen(thin, m, panels(width), std::min(width, room));
    width = std::min(width, room);
  }
}

template std::vector<double> widen<float>(const std::vector<float>&, std::size_t, std::size_t, std::size_t);
template std::vector<double> widen<double>(const std::vector<double>&, std::size_t, std::size_t, std::size_t);
template Range find_range<float>(const LargeMatrix<float>&, std::vector<double>, std::size_t,
                                 const RandomizedSvdOptions&, Pool&);
template Range find_range<double>(const LargeMatrix<double>&, std::vector<double>, std::size_t,
                                  const RandomizedSvdOptions&, Pool&);

}  // namespace headscan
