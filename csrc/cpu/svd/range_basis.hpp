// An orthonormal basis of the range of a large matrix by alternating products (randomized_svd.cpp has the scheme).
// float64 buffers have rows of ld = padded(columns) values, the padding zero.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "cpu/kernels/dense.hpp"
#include "cpu/svd/factor.hpp"
#include "cpu/svd/large_matrix.hpp"
#include "headscan/svd.hpp"

namespace headscan {

struct Range {
  std::size_t columns, ld;
  std::vector<double> q, z;  // (m, ld) orthonormal; (n, ld) = A^T q
};

// omega (n, panels(sample)).
template <class T>
Range find_range(const LargeMatrix<T>& a, const std::vector<T>& omega, std::size_t sample,
                 const RandomizedSvdOptions& options, Pool& pool);

// The first `columns` columns of a (rows, ld).
template <class T>
std::vector<double> widen(const std::vector<T>& a, std::size_t rows, std::size_t ld, std::size_t columns);

// a (rows, inner) times b (inner, ld).
std::vector<double> times(const std::vector<double>& a, std::size_t inner, const std::vector<double>& b,
                          std::size_t rows, std::size_t ld, const DenseKernels& kernels);

std::vector<double> identity(std::size_t n);  // (padded(n), padded(n))

// a = scale * (source map) triangle, source map orthonormal.
struct Orthonormal : Basis {
  std::size_t rows = 0, ld = 0;
  double scale = 1;
  const DenseKernels* kernels = nullptr;

  std::vector<double> vectors() const;                                              // source map
  std::vector<double> times(const std::vector<double>& b, std::size_t ld_b) const;  // source map b, b (ld, ld_b)
};
Orthonormal orthonormal(std::vector<double> a, std::size_t rows, std::size_t columns, double once_below,
                        const DenseKernels& kernels);

}  // namespace headscan
