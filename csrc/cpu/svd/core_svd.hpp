// The singular value decomposition of a small core in float64, by one-sided Jacobi.
#pragma once

#include <cstddef>
#include <vector>

#include "cpu/kernels/dense.hpp"

namespace headscan {

struct CoreSvd {
  std::vector<double> u, v;   // (ld, ld): columns are the singular vectors of the core
  std::vector<double> sigma;  // (r), descending
};

// Of left * right^T, both (ld, ld) with ld = padded(r) and the padding zero. u and v have orthonormal columns even
// where the core has a lower rank than r. `single`: to 1e-10, which is enough for float32, else to rounding.
CoreSvd core_svd(const std::vector<double>& left, const std::vector<double>& right, std::size_t r, bool single,
                 const DenseKernels& kernels);

// +1 or -1 per column of u (rows, ld), making its largest-magnitude entry positive (ties: the first).
std::vector<double> column_signs(const std::vector<double>& u, std::size_t rows, std::size_t r, std::size_t ld);

}  // namespace headscan
