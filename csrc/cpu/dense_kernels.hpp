// The dense kernels for vectors of W doubles (2 W floats). Included once by each dense_<isa>.cpp, inside an
// anonymous namespace, so that every instruction set gets its own copy and the linker cannot mix them.
//
// Register tiles: kRows broadcasts against kVectors vectors of the other operand.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/dense.hpp"

namespace headscan {
namespace {

typedef double f64v __attribute__((vector_size(HEADSCAN_W * 8), aligned(8), may_alias));
typedef float f32v __attribute__((vector_size(HEADSCAN_W * 8), aligned(4), may_alias));
constexpr std::size_t kW = HEADSCAN_W;
constexpr std::size_t kWf = 2 * HEADSCAN_W;

inline f64v load(const double* p) { return *reinterpret_cast<const f64v*>(p); }
inline f32v load(const float* p) { return *reinterpret_cast<const f32v*>(p); }
inline void store(double* p, f64v v) { *reinterpret_cast<f64v*>(p) = v; }

// c tile (kRows, 2 vectors) = sum over p < inner of a(row, p) * b(p, :).
template <std::size_t kRows, bool kTransposed>
inline void tile_f64(const double* a, std::size_t lda, const double* b, std::size_t ldb, std::size_t inner,
                     double* c, std::size_t ldc, std::size_t vectors) {
  f64v sum[kRows][2] = {};
  for (std::size_t p = 0; p < inner; ++p) {
    const f64v b0 = load(b + p * ldb);
    const f64v b1 = vectors == 2 ? load(b + p * ldb + kW) : b0;
    for (std::size_t row = 0; row < kRows; ++row) {
      const double value = kTransposed ? a[p * lda + row] : a[row * lda + p];
      sum[row][0] += value * b0;
      sum[row][1] += value * b1;
    }
  }
  for (std::size_t row = 0; row < kRows; ++row) {
    store(c + row * ldc, sum[row][0]);
    if (vectors == 2) store(c + row * ldc + kW, sum[row][1]);
  }
}

void gram_f64(const double* a, std::size_t rows, std::size_t ld, double* gram) {
  for (std::size_t p = 0; p < ld; p += kLane) {
    for (std::size_t q = p / (2 * kW) * (2 * kW); q < ld; q += 2 * kW) {
      const std::size_t vectors = std::min<std::size_t>(2, (ld - q) / kW);
      tile_f64<kLane, true>(a + p, ld, a + q, ld, rows, gram + p * ld + q, ld, vectors);
    }
  }
  for (std::size_t p = 0; p < ld; ++p) {
    for (std::size_t q = 0; q < p; ++q) gram[p * ld + q] = gram[q * ld + p];
  }
}

void multiply_f64(const double* a, std::size_t lda, const double* b, std::size_t rows, std::size_t inner,
                  std::size_t ld, double* c) {
  std::size_t row = 0;
  for (; row + 8 <= rows; row += 8) {
    for (std::size_t q = 0; q < ld; q += 2 * kW) {
      const std::size_t vectors = std::min<std::size_t>(2, (ld - q) / kW);
      tile_f64<8, false>(a + row * lda, lda, b + q, ld, inner, c + row * ld + q, ld, vectors);
    }
  }
  for (; row < rows; ++row) {
    for (std::size_t q = 0; q < ld; q += 2 * kW) {
      const std::size_t vectors = std::min<std::size_t>(2, (ld - q) / kW);
      tile_f64<1, false>(a + row * lda, lda, b + q, ld, inner, c + row * ld + q, ld, vectors);
    }
  }
}

inline double sum_lanes(f64v v) {
  double total = 0;
  for (std::size_t lane = 0; lane < kW; ++lane) total += v[lane];
  return total;
}

inline double dot(const double* a, const double* b, std::size_t ld) {
  f64v even = {}, odd = {};
  std::size_t i = 0;
  for (; i + 2 * kW <= ld; i += 2 * kW) {
    even += load(a + i) * load(b + i);
    odd += load(a + i + kW) * load(b + i + kW);
  }
  for (; i < ld; i += kW) even += load(a + i) * load(b + i);
  return sum_lanes(even + odd);
}

inline void rotate(double* a, double* b, double c, double s, std::size_t ld) {
  for (std::size_t i = 0; i < ld; i += kW) {
    const f64v x = load(a + i), y = load(b + i);
    store(a + i, c * x - s * y);
    store(b + i, s * x + c * y);
  }
}

int jacobi_f64(double* a, double* v, std::size_t r, std::size_t ld) {
  constexpr int kMaxSweeps = 60;
  const double tolerance = std::numeric_limits<double>::epsilon() * std::sqrt(static_cast<double>(r));
  double* norms = new double[r];
  int sweep = 0;
  for (bool rotated = true; rotated && sweep < kMaxSweeps; ++sweep) {
    rotated = false;
    for (std::size_t i = 0; i < r; ++i) norms[i] = dot(a + i * ld, a + i * ld, ld);
    for (std::size_t i = 0; i + 1 < r; ++i) {
      // De Rijk's pivot: the longest remaining row first.
      const std::size_t top = static_cast<std::size_t>(std::max_element(norms + i, norms + r) - norms);
      if (top != i) {
        std::swap_ranges(a + i * ld, a + (i + 1) * ld, a + top * ld);
        std::swap_ranges(v + i * ld, v + (i + 1) * ld, v + top * ld);
        std::swap(norms[i], norms[top]);
      }
      for (std::size_t j = i + 1; j < r; ++j) {
        const double p = dot(a + i * ld, a + j * ld, ld);
        if (!(std::abs(p) > tolerance * std::sqrt(norms[i] * norms[j]))) continue;
        rotated = true;
        const double zeta = (norms[j] - norms[i]) / (2 * p);
        const double t = std::copysign(1.0, zeta) / (std::abs(zeta) + std::hypot(1.0, zeta));
        const double c = 1 / std::sqrt(1 + t * t);
        rotate(a + i * ld, a + j * ld, c, c * t, ld);
        rotate(v + i * ld, v + j * ld, c, c * t, ld);
        norms[i] = std::max(0.0, norms[i] - t * p);
        norms[j] += t * p;
      }
    }
  }
  delete[] norms;
  return sweep;
}

// Scores of kQ queries against kA atoms, reduced to the maximum over the atoms.
template <std::size_t kQ, std::size_t kA>
inline void score_tile(const float* queries, std::size_t query_stride, const float* atoms,
                       std::size_t atom_stride, std::size_t width, float* best) {
  f32v sum[kQ][kA] = {};
  std::size_t i = 0;
  for (; i + kWf <= width; i += kWf) {
    f32v q[kQ];
    for (std::size_t m = 0; m < kQ; ++m) q[m] = load(queries + m * query_stride + i);
    for (std::size_t n = 0; n < kA; ++n) {
      const f32v g = load(atoms + n * atom_stride + i);
      for (std::size_t m = 0; m < kQ; ++m) sum[m][n] += q[m] * g;
    }
  }
  for (std::size_t m = 0; m < kQ; ++m) {
    for (std::size_t n = 0; n < kA; ++n) {
      float total = 0;
      for (std::size_t lane = 0; lane < kWf; ++lane) total += sum[m][n][lane];
      for (std::size_t tail = i; tail < width; ++tail) {
        total += queries[m * query_stride + tail] * atoms[n * atom_stride + tail];
      }
      best[m] = std::max(best[m], total);
    }
  }
}

template <std::size_t kQ>
inline void score_rows(const float* queries, std::size_t query_stride, const float* atoms,
                       std::size_t atom_count, std::size_t atom_stride, std::size_t width, float* maxima,
                       std::size_t maxima_stride) {
  float best[kQ];
  std::fill(best, best + kQ, -std::numeric_limits<float>::infinity());
  std::size_t atom = 0;
  for (; atom + 4 <= atom_count; atom += 4) {
    score_tile<kQ, 4>(queries, query_stride, atoms + atom * atom_stride, atom_stride, width, best);
  }
  for (; atom < atom_count; ++atom) {
    score_tile<kQ, 1>(queries, query_stride, atoms + atom * atom_stride, atom_stride, width, best);
  }
  for (std::size_t m = 0; m < kQ; ++m) maxima[m * maxima_stride] = best[m];
}

void block_maxima_f32(const float* queries, std::size_t query_count, std::size_t query_stride,
                      const float* atoms, std::size_t atom_count, std::size_t atom_stride,
                      std::size_t width, float* maxima, std::size_t maxima_stride) {
  std::size_t m = 0;
  for (; m + 4 <= query_count; m += 4) {
    score_rows<4>(queries + m * query_stride, query_stride, atoms, atom_count, atom_stride, width,
                  maxima + m * maxima_stride, maxima_stride);
  }
  for (; m < query_count; ++m) {
    score_rows<1>(queries + m * query_stride, query_stride, atoms, atom_count, atom_stride, width,
                  maxima + m * maxima_stride, maxima_stride);
  }
}

}  // namespace
}  // namespace headscan
