#define HEADSCAN_W 8
#include "cpu/dense_kernels.hpp"

namespace headscan {
const DenseKernels kDenseAvx512Vnni = {"avx512vnni", gram_f64,         multiply_f64, multiply_f32,
                                       jacobi_f64,   block_maxima_f32, exact_dot};
}  // namespace headscan
