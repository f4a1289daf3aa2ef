// randomized_svd: Q = an orthonormal basis of the range that A Omega shows (Halko, Martinsson and Tropp 2011,
// algorithms 4.3 and 4.4; Musco and Musco 2015, algorithm 2, for block Krylov), then the SVD of Q^T A (HMT 5.1).
//
// Alternating products, each orthonormalised before the next, serve both methods:
//   Q_0 = orth(A Omega), Z_i = A^T Q_i, Q_i = orth(A orth(Z_{i-1})).
// Power iterations keep the last (Q, Z); block Krylov keeps all, each Q_i orthogonal to those before. As
// Z_i^T = Q_i^T A, the kept Z is the projected matrix and costs no further product.
//
// Precision: products with A in the caller's type, sums bounded (thin_kernels.hpp); all else float64.
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cpu/kernels/kernels.hpp"
#include "cpu/support/parallel.hpp"
#include "cpu/svd/core_svd.hpp"
#include "cpu/svd/factor.hpp"
#include "cpu/svd/gaussian.hpp"
#include "cpu/svd/large_matrix.hpp"
#include "cpu/svd/range_basis.hpp"
#include "headscan/svd.hpp"

namespace headscan {
namespace {

constexpr std::size_t kProbes = 8;  // Gaussian vectors, independent of Omega, that the error is estimated from

template <class T>
struct Problem {
  std::size_t rank, sample;  // sample: columns of Omega
  std::vector<T> omega;      // (n, panels(sample))
  std::vector<T> probes;     // (n, kPanel), the first kProbes columns in use
  const RandomizedSvdOptions& options;
};

template <class T>
struct Output {
  T *u, *s, *vh, *error;  // of one matrix
};

template <class T>
Problem<T> draw(std::size_t rows, std::size_t columns, std::size_t rank, const RandomizedSvdOptions& options,
                Pool& pool) {
  const std::size_t asked = options.block > 0 ? options.block : rank + options.oversample;
  const std::size_t sample = std::min({asked, rows, columns});
  const std::size_t ld = panels(sample);
  Problem<T> out{rank, sample, std::vector<T>(columns * ld), std::vector<T>(columns * kPanel), options};
  pool.run(columns, [&](std::size_t row, std::size_t) {
    fill_gaussian(options.seed, row * ld, ld, &out.omega[row * ld]);
    fill_gaussian(options.seed, columns * ld + row * kPanel, kPanel, &out.probes[row * kPanel]);
  });
  return out;
}

// The Frobenius norm of A - u diag(sigma) v^T over the unscaled A, u (m, ld) and v (n, ld) with `rank` columns, from
// A W for the probes W: the mean of |(A - u sigma v^T) w|^2 is its square, without bias.
template <class T>
double probed_error(const LargeMatrix<T>& a, const Problem<T>& problem, const std::vector<double>& u,
                    const std::vector<double>& sigma, const std::vector<double>& v, std::size_t ld, Pool& pool) {
  const std::size_t n = a.columns(), m = a.rows();
  std::vector<T> probed(m * kPanel);
  a.multiply(problem.probes.data(), kPanel, probed.data(), pool);
  std::vector<double> inner(kProbes * ld, 0.0);  // rows: sigma v^T w
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t w = 0; w < kProbes; ++w) {
      const auto value = static_cast<double>(problem.probes[i * kPanel + w]);
      for (std::size_t j = 0; j < problem.rank; ++j) inner[w * ld + j] += value * v[i * ld + j];
    }
  }
  for (std::size_t w = 0; w < kProbes; ++w) {
    for (std::size_t j = 0; j < problem.rank; ++j) inner[w * ld + j] *= sigma[j];
  }
  double sum = 0;
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t w = 0; w < kProbes; ++w) {
      double fitted = 0;
      for (std::size_t j = 0; j < problem.rank; ++j) fitted += u[i * ld + j] * inner[w * ld + j];
      const double rest = static_cast<double>(probed[i * kPanel + w]) - fitted;
      sum += rest * rest;
    }
  }
  return std::sqrt(sum / static_cast<double>(kProbes));
}

// u s v^T = q z^T, q (m, ld) orthonormal and z (n, ld) = A^T q, cut off at the rank.
template <class T>
void finish(const LargeMatrix<T>& a, const Problem<T>& problem, Range range, Pool& pool, const Output<T>& out) {
  const DenseKernels& kernels = a.kernels();
  const std::size_t m = a.rows(), n = a.columns(), rank = problem.rank, ld = padded(rank), ld_core = range.ld;
  // Rounded to float32, an orthogonality of 1e-10 is as good as any.
  Orthonormal basis =
      orthonormal(std::move(range.z), n, range.columns, sizeof(T) == sizeof(float) ? 1e3 : 0, kernels);
  CoreSvd core =
      core_svd(identity(range.columns), basis.triangle, range.columns, sizeof(T) == sizeof(float), kernels);
  for (double& value : core.sigma) value *= basis.scale;

  const std::vector<double> u = times(range.q, ld_core, widen(core.u, ld_core, ld_core, rank), m, ld, kernels);
  const std::vector<double> v = basis.times(widen(core.v, ld_core, ld_core, rank), ld);
  const auto signs = column_signs(u, m, rank, ld);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = 0; j < rank; ++j) out.u[i * rank + j] = static_cast<T>(signs[j] * u[i * ld + j]);
  }
  double left = a.squared_norm();
  for (std::size_t j = 0; j < rank; ++j) {
    left -= core.sigma[j] * core.sigma[j];
    out.s[j] = static_cast<T>(a.scale() * core.sigma[j]);
    if (!std::isfinite(out.s[j])) {
      throw std::invalid_argument(
          "the matrix, or the product of its factors, is too large: its singular values "
          "overflow; scale it down");
    }
    for (std::size_t i = 0; i < n; ++i) out.vh[j * n + i] = static_cast<T>(signs[j] * v[i * ld + j]);
  }
  // Pythagoras, unless the difference is near the rounding of the sum.
  const double clear = 64 * static_cast<double>(std::numeric_limits<T>::epsilon()) * a.squared_norm();
  const bool direct = !a.factored() && left > clear;
  *out.error =
      static_cast<T>(a.scale() * (direct ? std::sqrt(left) : probed_error(a, problem, u, core.sigma, v, ld, pool)));
}

template <class T>
void decompose(const LargeMatrix<T>& a, const Problem<T>& problem, Pool& pool, const Output<T>& out) {
  finish(a, problem, find_range(a, problem.omega, problem.sample, problem.options, pool), pool, out);
}

void check_shapes(std::size_t rows, std::size_t columns, std::size_t rank, const RandomizedSvdOptions& options) {
  if (rank == 0 || rank > std::min(rows, columns)) {
    throw std::invalid_argument("rank must be from 1 to " + std::to_string(std::min(rows, columns)) +
                                ", the smaller side of the matrices, got " + std::to_string(rank));
  }
  if (options.iterations < 0) {
    throw std::invalid_argument("iterations must be 0 or more, got " + std::to_string(options.iterations));
  }
  if (options.block == 0) return;
  if (options.method != RangeMethod::krylov) throw std::invalid_argument("a block is for the method krylov alone");
  const std::size_t blocks = static_cast<std::size_t>(options.iterations) + 1;
  if (options.block < (rank + blocks - 1) / blocks) {
    throw std::invalid_argument("a block of " + std::to_string(options.block) + " gives " +
                                std::to_string(options.block * blocks) + " directions in " + std::to_string(blocks) +
                                " products, below the rank " + std::to_string(rank));
  }
}

// As many matrices as fill all workers go one to a worker; the rest one after the other, all workers in each.
template <class T, class Load>
void decompose_all(std::size_t count, std::size_t rows, std::size_t columns, BatchView<T> u, MatrixView<T> s,
                   BatchView<T> vh, T* error, const RandomizedSvdOptions& options, const Load& load) {
  check_shapes(rows, columns, s.columns, options);
  Pool pool(options.threads, options.interrupt);
  if (count == 0) return;
  const auto problem = draw<T>(rows, columns, s.columns, options, pool);
  const auto run = [&](std::size_t item, Pool& inside) {
    decompose(load(item, inside), problem, inside, {u.matrix(item), s.row(item), vh.matrix(item), error + item});
  };
  const std::size_t alone = count / pool.workers() * pool.workers();
  pool.run(alone, [&](std::size_t item, std::size_t) {
    Pool one(1);
    run(item, one);
  });
  for (std::size_t item = alone; item < count; ++item) run(item, pool);
}

}  // namespace

template <class T>
void randomized_svd(BatchView<const T> a, BatchView<T> u, MatrixView<T> s, BatchView<T> vh, T* error,
                    const RandomizedSvdOptions& options) {
  const DenseKernels& kernels = active_kernels().dense;
  decompose_all(a.count, a.rows, a.columns, u, s, vh, error, options, [&](std::size_t item, Pool& pool) {
    return LargeMatrix<T>({a.matrix(item), a.rows, a.columns, "matrix " + std::to_string(item), kernels, pool});
  });
}

template <class T>
void randomized_svd(BatchView<const T> left, BatchView<const T> right, BatchView<T> u, MatrixView<T> s,
                    BatchView<T> vh, T* error, const RandomizedSvdOptions& options) {
  if (left.count != right.count || left.columns != right.rows || left.columns == 0) {
    const auto shape = [](const BatchView<const T>& a) {
      return "(" + std::to_string(a.count) + ", " + std::to_string(a.rows) + ", " + std::to_string(a.columns) + ")";
    };
    throw std::invalid_argument("expected left (b, m, r) and right (b, r, n) with r >= 1, got " + shape(left) +
                                " and " + shape(right));
  }
  const DenseKernels& kernels = active_kernels().dense;
  decompose_all(left.count, left.rows, right.columns, u, s, vh, error, options, [&](std::size_t item, Pool& pool) {
    const std::string which = " factor of matrix " + std::to_string(item);
    return LargeMatrix<T>({left.matrix(item), left.rows, left.columns, "the left" + which, kernels, pool},
                          {right.matrix(item), right.rows, right.columns, "the right" + which, kernels, pool});
  });
}

#define HEADSCAN_INSTANTIATE(T)                                                                                      \
  template void randomized_svd<T>(BatchView<const T>, BatchView<T>, MatrixView<T>, BatchView<T>, T*,                 \
                                  const RandomizedSvdOptions&);                                                      \
  template void randomized_svd<T>(BatchView<const T>, BatchView<const T>, BatchView<T>, MatrixView<T>, BatchView<T>, \
                                  T*, const RandomizedSvdOptions&)
HEADSCAN_INSTANTIATE(float);
HEADSCAN_INSTANTIATE(double);

}  // namespace headscan
