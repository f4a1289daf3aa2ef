// Dense kernels behind the SVD and the plain search, one translation unit per instruction set
// (dense_avx512vnni.cpp, dense_avx2.cpp, dense_portable.cpp), all compiled from dense_kernels.hpp.
//
// float64 kernels work on row-major buffers whose row length `ld` is a multiple of kLane, the padding zero.
#pragma once

#include <cstddef>

#include "common/bounds.hpp"

namespace headscan {

inline constexpr std::size_t kLane = 8;    // doubles in the widest vector
inline constexpr std::size_t kPanel = 16;  // floats in the widest vector
inline std::size_t padded(std::size_t n) { return (n + kLane - 1) / kLane * kLane; }

// Products of a large matrix, read where it lies, with a thin one: c and b have rows of `ld` values, a multiple of
// kPanel (float64: of kLane), the padding zero. Sums run over kSumLength products at a time and the order of every
// sum is fixed by its length alone, so splitting c by rows over calls changes nothing.
template <class T>
struct ThinKernels {
  // c (rows, ld) = a (rows, lda; first `inner` columns) * b (inner, ld).
  void (*multiply)(const T* a, std::size_t lda, const T* b, std::size_t rows, std::size_t inner, std::size_t ld,
                   T* c);

  // c (columns, ld) = a^T b for a (inner, lda; first `columns` columns) and b (inner, ld).
  void (*multiply_transposed)(const T* a, std::size_t lda, const T* b, std::size_t inner, std::size_t columns,
                              std::size_t ld, T* c);

  // The float64 sum of squares of n values.
  double (*sum_squares)(const T* a, std::size_t n);
};

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

  // One-sided Jacobi: rotates the rows of a (r, ld) until the cosine of any two is at most `tolerance`, and those of
  // v alike if there is one. Returns the sweeps used.
  int (*jacobi_f64)(double* a, double* v, std::size_t r, std::size_t ld, double tolerance);

  // maxima[q] = max over atoms of <query q, atom>, float32, for queries (count, stride) padded with zeros
  // to a multiple of 16 and atoms (atom_count, width) as the caller holds them.
  void (*block_maxima_f32)(const float* queries, std::size_t query_count, std::size_t query_stride,
                           const float* atoms, std::size_t atom_count, std::size_t atom_stride, std::size_t width,
                           float* maxima, std::size_t maxima_stride);

  // The deciding inner product of exact.hpp: the same bits on every instruction set.
  double (*exact_dot)(const float* atom, const double* query, std::size_t width);

  ThinKernels<float> thin_f32;
  ThinKernels<double> thin_f64;

  template <class T>
  const ThinKernels<T>& thin() const;
};

template <>
inline const ThinKernels<float>& DenseKernels::thin<float>() const {
  return thin_f32;
}
template <>
inline const ThinKernels<double>& DenseKernels::thin<double>() const {
  return thin_f64;
}

extern const DenseKernels kDensePortable;
#if defined(HEADSCAN_X86)
extern const DenseKernels kDenseAvx2;
extern const DenseKernels kDenseAvx512Vnni;
#endif

}  // namespace headscan
