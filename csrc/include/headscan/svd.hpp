// Batched singular value decompositions that never form the product of the factors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "headscan/views.hpp"

namespace headscan {

struct SvdOptions {
  int threads = 0;                       // 0: all that default_threads() names
  std::function<void()> interrupt = {};  // called on the calling thread every now and then; may throw to stop early
};

// Singular triplets of left[i] * right[i] for i = 0 .. count-1, largest first.
//
//   left  (count, d, r)      right (count, r, d')     r <= min(d, d')
//   u     (count, d, r)      s     (count, r)         vh (count, r, d')
//
// The sign of each pair makes the largest-magnitude entry of the column of u positive (ties: the first).
// u and v have orthonormal columns even where the product has a lower rank than r.
// Throws std::invalid_argument on shapes that do not fit, on NaN or infinity and where
// singular values overflow T.
template <class T>
void svd_factored(BatchView<const T> left, BatchView<const T> right, BatchView<T> u, MatrixView<T> s, BatchView<T> vh,
                  const SvdOptions& options = {});

enum class RangeMethod : std::uint8_t {
  power,   // the range of (A A^T)^q A Omega
  krylov,  // the range of [A Omega, (A A^T) A Omega, .., (A A^T)^q A Omega]
};

struct RandomizedSvdOptions {
  std::size_t oversample = 8;  // columns of Omega beyond the rank; no more than fit are taken
  int iterations = 2;          // q
  RangeMethod method = RangeMethod::power;
  std::size_t block = 0;                 // columns of Omega for krylov; 0: rank + oversample
  std::uint64_t seed = 0;                // of the Gaussian Omega, the same for every matrix of a batch
  int threads = 0;                       // 0: all that default_threads() names
  std::function<void()> interrupt = {};  // as for SvdOptions
};

// The leading `rank` singular triplets of a[i] (m, n), i = 0 .. count-1, from products with thin matrices alone.
//
//   a (count, m, n)    u (count, m, rank)    s (count, rank)    vh (count, rank, n)    error (count)
//
// Signs as svd_factored has them. error[i] estimates the Frobenius norm of a[i] - u s vh. Products run in T, all
// else in float64. Throws std::invalid_argument on shapes that do not fit and on NaN or infinity.
template <class T>
void randomized_svd(BatchView<const T> a, BatchView<T> u, MatrixView<T> s, BatchView<T> vh, T* error,
                    const RandomizedSvdOptions& options = {});

// The same for left[i] (m, inner) * right[i] (inner, n), never formed; a sum of products is the product of the
// factors laid side by side.
template <class T>
void randomized_svd(BatchView<const T> left, BatchView<const T> right, BatchView<T> u, MatrixView<T> s,
                    BatchView<T> vh, T* error, const RandomizedSvdOptions& options = {});

}  // namespace headscan
