// Orthonormal bases of tall factors, in float64.
#pragma once

#include <cstddef>
#include <vector>

#include "cpu/kernels/dense.hpp"

namespace headscan {

// A factor (rows, ld) as (source * map) * triangle, where source * map is orthonormal in its first `rank` columns and
// map and triangle (ld, ld) are upper triangular. Padding columns are zero.
struct Basis {
  std::vector<double> source, map, triangle;
  std::vector<double> scratch;  // kept between calls, so that a worker allocates once
};

// Cholesky of the Gram matrix, once where the condition number is below `once_below`, twice (CholeskyQR2, Fukaya et
// al. 2014) where it is below 1e6, which is as orthogonal as Householder QR; that where it is higher. The
// orthogonality of one Cholesky is about 1e-16 times the condition number squared. The factor is scaled to at
// most 1 in magnitude.
// On entry out.source holds the factor.
void orthonormal_basis(std::size_t rows, std::size_t rank, double once_below, const DenseKernels& kernels,
                       Basis& out);

}  // namespace headscan
