#define HEADSCAN_W 8
#include "cpu/dense_kernels.hpp"

namespace headscan {
const DenseKernels kDenseAvx512 = {"avx512", gram_f64, multiply_f64, jacobi_f64, block_maxima_f32};
}  // namespace headscan
