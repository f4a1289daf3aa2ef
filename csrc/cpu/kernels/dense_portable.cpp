#define HEADSCAN_W 2
#include "cpu/kernels/dense_kernels.hpp"
#include "cpu/kernels/thin_kernels.hpp"

namespace headscan {
constexpr DenseKernels kDensePortable = {"portable",
                                         gram_f64,
                                         multiply_f64,
                                         multiply_f32,
                                         jacobi_f64,
                                         block_maxima_f32,
                                         exact_dot,
                                         thin_kernels<f32v, float>(),
                                         thin_kernels<f64v, double>()};
}  // namespace headscan
