// Orthonormal bases of tall factors, in float64.
#pragma once

#include <cstddef>
#include <vector>

#include "cpu/dense.hpp"

namespace headscan {

// a = q * triangle, with q (rows, ld) orthonormal in its first `rank` columns and triangle (ld, ld) upper
// triangular there. Padding columns are zero.
struct Basis {
  std::vector<double> q, triangle;
};

// Cholesky of the Gram matrix, twice (CholeskyQR2, Fukaya et al. 2014), which is as orthogonal as Householder
// up to a condition number of about 1e7; Householder QR where the factor is worse conditioned than that.
// `a` (rows, ld) is scaled to at most 1 in magnitude and may be overwritten.
Basis orthonormal_basis(std::vector<double>& a, std::size_t rows, std::size_t rank, const DenseKernels& kernels);

}  // namespace headscan
