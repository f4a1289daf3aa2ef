// Batched singular value decompositions that never form the product of the factors.
#pragma once

#include "headscan/views.hpp"

namespace headscan {

struct SvdOptions {
  int threads = 0;  // 0: all that default_threads() names
};

// Singular triplets of left[i] * right[i] for i = 0 .. count-1, largest first.
//
//   left  (count, d, r)      right (count, r, d')     r <= min(d, d')
//   u     (count, d, r)      s     (count, r)         vh (count, r, d')
//
// The sign of each pair makes the largest-magnitude entry of the column of u positive (ties: the first).
// u and v have orthonormal columns even where the product has a lower rank than r.
// Throws std::invalid_argument on shapes that do not fit and on NaN or infinity.
template <class T>
void svd_factored(BatchView<const T> left, BatchView<const T> right, BatchView<T> u, MatrixView<T> s, BatchView<T> vh,
                  const SvdOptions& options = {});

}  // namespace headscan
