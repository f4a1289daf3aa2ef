// svd_factored: left = Q1 C1, right^T = Q2 C2, SVD of the small core C1 C2^T = U S V^T by one-sided Jacobi,
// then u = Q1 U and v = Q2 V. Everything between input and output is float64.
#include "headscan/svd.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/factor_shapes.hpp"
#include "cpu/kernels/kernels.hpp"
#include "cpu/support/parallel.hpp"
#include "cpu/svd/core_svd.hpp"
#include "cpu/svd/factor.hpp"

namespace headscan {
namespace {

// NaN or infinity if there is any. Sixteen running maxima, which a compiler turns into vectors.
template <class T>
double largest_magnitude(const T* values, std::size_t count) {
  T largest[16] = {}, sum[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (std::size_t lane = 0; lane < 16; ++lane) {
      const T magnitude = std::abs(values[i + lane]);
      largest[lane] = magnitude > largest[lane] ? magnitude : largest[lane];
      sum[lane] += magnitude * 0;  // NaN from NaN and from infinity
    }
  }
  for (; i < count; ++i) {
    largest[0] = std::max(largest[0], std::abs(values[i]));
    sum[0] += values[i] * 0;
  }
  return static_cast<double>(*std::max_element(largest, largest + 16) + std::accumulate(sum, sum + 16, T{0}));
}

// Copies a factor into float64 (rows, ld), transposed if asked, divided by its largest magnitude, or by the least
// normal number where that is subnormal and has no reciprocal. Returns the divisor.
template <class T>
double copy_scaled(const T* source, std::size_t rows, std::size_t rank, bool transposed, const std::string& name,
                   std::vector<double>& out) {
  const double largest = largest_magnitude(source, rows * rank);
  if (!std::isfinite(largest)) throw std::invalid_argument(name + " holds NaN or infinity");
  const double unit = std::max(largest, std::numeric_limits<double>::min()), scale = 1 / unit;
  const std::size_t ld = padded(rank);
  if (ld == rank) {
    out.resize(rows * ld);
  } else {
    out.assign(rows * ld, 0.0);
  }
  if (!transposed) {
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t j = 0; j < rank; ++j) out[i * ld + j] = scale * static_cast<double>(source[i * rank + j]);
    }
    return unit;
  }
  constexpr std::size_t kTile = 16;  // source rows at a time, so that their cache lines are used up
  for (std::size_t j = 0; j < rank; j += kTile) {
    for (std::size_t i = 0; i < rows; ++i) {
      for (std::size_t c = j; c < std::min(rank, j + kTile); ++c) {
        out[i * ld + c] = scale * static_cast<double>(source[c * rows + i]);
      }
    }
  }
  return unit;
}

struct Workspace {
  Basis left, right;
  std::vector<double> mix, vectors;
};

// vectors (rows, ld) = the basis times columns of the core's singular vectors.
void expand(const Basis& basis, const std::vector<double>& core, std::size_t rows, std::size_t r, std::size_t ld,
            const DenseKernels& kernels, Workspace& work) {
  work.mix.resize(ld * ld);
  work.vectors.resize(rows * ld);
  kernels.multiply_f64(basis.map.data(), ld, core.data(), ld, r, ld, work.mix.data());
  kernels.multiply_f64(basis.source.data(), ld, work.mix.data(), rows, r, ld, work.vectors.data());
}

template <class T>
void svd_one(BatchView<const T> left, BatchView<const T> right, BatchView<T> u, MatrixView<T> s, BatchView<T> vh,
             std::size_t item, const DenseKernels& kernels, Workspace& work) {
  const std::size_t r = left.columns, ld = padded(r), d_left = left.rows, d_right = right.columns;
  const std::string which = " factor of matrix " + std::to_string(item);
  // float32 output needs no better orthogonality than 1e-10, which one Cholesky gives up to this condition number.
  const double once_below = sizeof(T) == sizeof(float) ? 1e3 : 0;
  const double unit_left = copy_scaled(left.matrix(item), d_left, r, false, "the left" + which, work.left.source);
  orthonormal_basis(d_left, r, once_below, kernels, work.left);
  const double unit_right = copy_scaled(right.matrix(item), d_right, r, true, "the right" + which, work.right.source);
  orthonormal_basis(d_right, r, once_below, kernels, work.right);
  const CoreSvd core = core_svd(work.left.triangle, work.right.triangle, r, sizeof(T) == sizeof(float), kernels);

  expand(work.left, core.u, d_left, r, ld, kernels, work);
  const auto signs = column_signs(work.vectors, d_left, r, ld);
  for (std::size_t i = 0; i < d_left; ++i) {
    for (std::size_t j = 0; j < r; ++j)
      u.matrix(item)[i * r + j] = static_cast<T>(signs[j] * work.vectors[i * ld + j]);
  }
  const double scale = unit_left * unit_right;
  const bool normal = std::isnormal(scale);  // else both are above 1 or both below, and apart they lose nothing
  for (std::size_t j = 0; j < r; ++j) {
    s.row(item)[j] = static_cast<T>(normal ? scale * core.sigma[j] : unit_left * core.sigma[j] * unit_right);
  }
  if (!std::isfinite(s.row(item)[0])) {
    throw std::invalid_argument("the product of the factors of matrix " + std::to_string(item) +
                                " is too large: its singular values overflow; scale the factors down");
  }
  expand(work.right, core.v, d_right, r, ld, kernels, work);
  constexpr std::size_t kTile = 16;
  for (std::size_t j = 0; j < r; j += kTile) {
    for (std::size_t i = 0; i < d_right; ++i) {
      for (std::size_t c = j; c < std::min(r, j + kTile); ++c) {
        vh.matrix(item)[c * d_right + i] = static_cast<T>(signs[c] * work.vectors[i * ld + c]);
      }
    }
  }
}

}  // namespace

template <class T>
void svd_factored(BatchView<const T> left, BatchView<const T> right, BatchView<T> u, MatrixView<T> s, BatchView<T> vh,
                  const SvdOptions& options) {
  check_factor_shapes(left, right);
  Pool pool(options.threads, options.interrupt);
  const DenseKernels& kernels = active_kernels().dense;
  std::vector<Workspace> work(pool.workers());
  pool.run(left.count, [&](std::size_t item, std::size_t worker) {
    svd_one(left, right, u, s, vh, item, kernels, work[worker]);
  });
}

template void svd_factored<float>(BatchView<const float>, BatchView<const float>, BatchView<float>, MatrixView<float>,
                                  BatchView<float>, const SvdOptions&);
template void svd_factored<double>(BatchView<const double>, BatchView<const double>, BatchView<double>,
                                   MatrixView<double>, BatchView<double>, const SvdOptions&);

}  // namespace headscan
