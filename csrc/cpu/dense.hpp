// Dense kernels behind the SVD and the plain search, one translation unit per instruction set
// (dense_avx512vnni.cpp, dense_avx2.cpp, dense_portable.cpp), all compiled from dense_kernels.hpp.
//
// float64 kernels work on row-major buffers whose row length `ld` is a multiple of kLane, the padding zero.
#pragma once

#include <cstddef>

namespace headscan {

inline constexpr std::size_t kLane = 8;  // doubles in the widest vector
inline constexpr std::size_t kSumLength = 128;
inline std::size_t padded(std::size_t n) { return (n + kLane - 1) / kLane * kLane; }

struct DenseKernels {
  const char* isa;

  // gram (ld, ld) = a^T a for a (rows, ld).
  void (*gram_f64)(const double* a, std::size_t rows, std::size_t ld, double* gram);

  // c (rows, ld) = a (rows, lda; first `inner` columns) * b (inner, ld).
  void (*multiply_f64)(const double* a, std::size_t lda, const double* b, std::size_t rows, std::size_t inner,
                       std::size_t ld, double* c);

  // The same in float32, ld a multiple of 16. Sums run over kSumLength products at a time, which bounds rounding.
  void (*multiply_f32)(const float* a, std::size_t lda, const float* b, std::size_t rows, std::size_t inner,
                       std::size_t ld, float* c);

  // One-sided Jacobi: rotates the rows of a (r, ld) until they are orthogonal, and those of v alike.
  // Returns the sweeps used.
  int (*jacobi_f64)(double* a, double* v, std::size_t r, std::size_t ld);

  // maxima[q] = max over atoms of <query q, atom>, float32, for queries (count, stride) padded with zeros
  // to a multiple of 16 and atoms (atom_count, width) as the caller holds them.
  void (*block_maxima_f32)(const float* queries, std::size_t query_count, std::size_t query_stride,
                           const float* atoms, std::size_t atom_count, std::size_t atom_stride, std::size_t width,
                           float* maxima, std::size_t maxima_stride);

  // The deciding inner product of exact.hpp: the same bits on every instruction set.
  double (*exact_dot)(const float* atom, const double* query, std::size_t width);
};

extern const DenseKernels kDensePortable;
#if defined(HEADSCAN_X86)
extern const DenseKernels kDenseAvx2;
extern const DenseKernels kDenseAvx512Vnni;
#endif

// The kernels for active_isa().
const DenseKernels& dense_kernels();

}  // namespace headscan
