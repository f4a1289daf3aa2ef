// The dense kernels for vectors of W doubles (2 W floats). Included once by each dense_<isa>.cpp, inside an
// anonymous namespace, so that every instruction set gets its own copy and the linker cannot mix them.
//
// Register tiles: kRows broadcasts against kVectors vectors of the other operand.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>
#if HEADSCAN_W > 2
#include <immintrin.h>
#endif

#include "common/exact.hpp"
#include "cpu/kernels/dense.hpp"

namespace headscan {
namespace {

using f64v [[gnu::vector_size(HEADSCAN_W * 8), gnu::aligned(8), gnu::may_alias]] = double;
using f32v [[gnu::vector_size(HEADSCAN_W * 8), gnu::aligned(4), gnu::may_alias]] = float;
constexpr std::size_t kW = HEADSCAN_W;
constexpr std::size_t kWf = 2 * kW;

inline f64v load(const double* p) { return *reinterpret_cast<const f64v*>(p); }
inline f32v load(const float* p) { return *reinterpret_cast<const f32v*>(p); }
inline void store(double* p, f64v v) { *reinterpret_cast<f64v*>(p) = v; }
inline void store(float* p, f32v v) { *reinterpret_cast<f32v*>(p) = v; }

// a * b + c in one rounding where the machine has it: written out, since contraction is off for all sources.
#if HEADSCAN_W == 8
inline f64v fma(f64v a, f64v b, f64v c) { return f64v(_mm512_fmadd_pd(__m512d(a), __m512d(b), __m512d(c))); }
inline f32v fma(f32v a, f32v b, f32v c) { return f32v(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(c))); }
#elif HEADSCAN_W == 4
inline f64v fma(f64v a, f64v b, f64v c) { return f64v(_mm256_fmadd_pd(__m256d(a), __m256d(b), __m256d(c))); }
inline f32v fma(f32v a, f32v b, f32v c) { return f32v(_mm256_fmadd_ps(__m256(a), __m256(b), __m256(c))); }
#else
inline f64v fma(f64v a, f64v b, f64v c) { return a * b + c; }
inline f32v fma(f32v a, f32v b, f32v c) { return a * b + c; }
#endif

// c tile (kRows, 2 vectors) = or += the sum over p < inner of a(row, p) * b(p, :).
template <std::size_t kRows, bool kTransposed, bool kAccumulate = false, class V = f64v, class T = double>
inline void tile(const T* a, std::size_t lda, const T* b, std::size_t ldb, std::size_t inner, T* c, std::size_t ldc,
                 bool two) {
  constexpr std::size_t kLanes = sizeof(V) / sizeof(T);
  V sum[kRows][2] = {};
  for (std::size_t p = 0; p < inner; ++p) {
    const V b0 = load(b + p * ldb);
    const V b1 = two ? load(b + p * ldb + kLanes) : b0;
    for (std::size_t row = 0; row < kRows; ++row) {
      const V value = (kTransposed ? a[p * lda + row] : a[row * lda + p]) - V{};  // broadcast
      sum[row][0] = fma(value, b0, sum[row][0]);
      sum[row][1] = fma(value, b1, sum[row][1]);
    }
  }
  for (std::size_t row = 0; row < kRows; ++row) {
    T* to = c + row * ldc;
    store(to, kAccumulate ? load(to) + sum[row][0] : sum[row][0]);
    if (two) store(to + kLanes, kAccumulate ? load(to + kLanes) + sum[row][1] : sum[row][1]);
  }
}

void gram_f64(const double* a, std::size_t rows, std::size_t ld, double* gram) {
  std::fill(gram, gram + ld * ld, 0.0);
  for (std::size_t first = 0; first < rows; first += kSumLength) {  // rows that stay in cache
    const double* block = a + first * ld;
    const std::size_t length = std::min(kSumLength, rows - first);
    for (std::size_t p = 0; p < ld; p += kLane) {
      for (std::size_t q = p / (2 * kW) * (2 * kW); q < ld; q += 2 * kW) {
        tile<kLane, true, true>(block + p, ld, block + q, ld, length, gram + p * ld + q, ld, q + kW < ld);
      }
    }
  }
  for (std::size_t p = 0; p < ld; ++p) {
    for (std::size_t q = 0; q < p; ++q) gram[p * ld + q] = gram[q * ld + p];
  }
}

template <bool kAccumulate, class V, class T>
inline void multiply(const T* a, std::size_t lda, const T* b, std::size_t ldb, std::size_t rows, std::size_t inner,
                     std::size_t columns, T* c, std::size_t ldc) {
  constexpr std::size_t kLanes = sizeof(V) / sizeof(T);
  for (std::size_t q = 0; q < columns; q += 2 * kLanes) {
    const bool two = q + kLanes < columns;
    std::size_t row = 0;
    for (; row + 8 <= rows; row += 8) {
      tile<8, false, kAccumulate, V>(a + row * lda, lda, b + q, ldb, inner, c + row * ldc + q, ldc, two);
    }
    for (; row < rows; ++row) {
      tile<1, false, kAccumulate, V>(a + row * lda, lda, b + q, ldb, inner, c + row * ldc + q, ldc, two);
    }
  }
}

void multiply_f64(const double* a, std::size_t lda, const double* b, std::size_t rows, std::size_t inner,
                  std::size_t ld, double* c) {
  multiply<false, f64v>(a, lda, b, ld, rows, inner, ld, c, ld);
}

void multiply_f32(const float* a, std::size_t lda, const float* b, std::size_t rows, std::size_t inner,
                  std::size_t ld, float* c) {
  for (std::size_t p = 0; p < inner; p += kSumLength) {
    const std::size_t length = std::min(kSumLength, inner - p);
    if (p == 0) {
      multiply<false, f32v>(a, lda, b, ld, rows, length, ld, c, ld);
    } else {
      multiply<true, f32v>(a + p, lda, b + p * ld, ld, rows, length, ld, c, ld);
    }
  }
}

inline f64v every(double value) { return value - f64v{}; }

inline double sum_lanes(f64v v) {
  double total = 0;
  for (std::size_t lane = 0; lane < kW; ++lane) total += v[lane];
  return total;
}

inline double padded_dot(const double* a, const double* b, std::size_t ld) {
  f64v even = {}, odd = {};
  std::size_t i = 0;
  for (; i + 2 * kW <= ld; i += 2 * kW) {
    even = fma(load(a + i), load(b + i), even);
    odd = fma(load(a + i + kW), load(b + i + kW), odd);
  }
  for (; i < ld; i += kW) even = fma(load(a + i), load(b + i), even);
  return sum_lanes(even + odd);
}

inline void rotate(double* a, double* b, double c, double s, std::size_t ld) {
  for (std::size_t i = 0; i < ld; i += kW) {
    const f64v x = load(a + i), y = load(b + i);
    store(a + i, fma(every(c), x, every(-s) * y));
    store(b + i, fma(every(s), x, every(c) * y));
  }
}

// What one round of disjoint pairs works on; all of it as long as there are pairs.
struct Pairs {
  explicit Pairs(std::size_t count) : left(count), right(count), x(count), y(count), p(count), c(count), s(count) {}
  std::vector<std::size_t> left, right;
  std::vector<double> x, y, p, c, s;  // squared norms, inner product, cosine, sine
};

// The angles that make the rows of each pair orthogonal; sine 0 where they are already.
void set_angles(Pairs& pairs, double tolerance) {
  const double square = tolerance * tolerance;
  double *x = pairs.x.data(), *y = pairs.y.data(), *p = pairs.p.data(), *c = pairs.c.data(), *s = pairs.s.data();
  for (std::size_t m = 0, count = pairs.p.size(); m < count; ++m) {  // branchless: eight pairs at a time
    const double needed = p[m] * p[m] > square * x[m] * y[m] ? 1.0 : 0.0;
    const double twice = needed > 0 ? 2 * p[m] : 1.0;
    const double zeta = (y[m] - x[m]) / twice;
    const double t = needed * std::copysign(1.0, zeta) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));  // 0 if huge
    c[m] = 1 / std::sqrt(1 + t * t);
    s[m] = t * c[m];
    p[m] *= t;
  }
}

// Rotates one round of pairs: all inner products, then all angles, then all rotations, so that the latency of one
// pair hides behind the others. Returns whether any pair was rotated. v may be null.
bool rotate_pairs(double* a, double* v, Pairs& pairs, std::size_t ld, double tolerance, std::vector<double>& norms) {
  const std::size_t count = pairs.left.size();
  for (std::size_t m = 0; m < count; ++m) {
    pairs.p[m] = padded_dot(a + pairs.left[m] * ld, a + pairs.right[m] * ld, ld);
    pairs.x[m] = norms[pairs.left[m]];
    pairs.y[m] = norms[pairs.right[m]];
  }
  set_angles(pairs, tolerance);
  bool rotated = false;
  for (std::size_t m = 0; m < count; ++m) {
    if (pairs.s[m] == 0) continue;
    rotated = true;
    const std::size_t left = pairs.left[m], right = pairs.right[m];
    rotate(a + left * ld, a + right * ld, pairs.c[m], pairs.s[m], ld);
    if (v != nullptr) rotate(v + left * ld, v + right * ld, pairs.c[m], pairs.s[m], ld);
    norms[left] = std::max(0.0, norms[left] - pairs.p[m]);
    norms[right] += pairs.p[m];
  }
  return rotated;
}

// Pairs go round as in a tournament: row 0 stays, the others move on by one place a round (Brent and Luk 1985).
int jacobi_f64(double* a, double* v, std::size_t r, std::size_t ld, double tolerance) {
  constexpr int kMaxSweeps = 60;
  const std::size_t players = r + r % 2;  // row r, if it plays, is padding: zero, never rotated
  Pairs pairs(players / 2);
  std::vector<double> norms(players, 0.0);
  std::vector<std::size_t> seats(players);
  std::iota(seats.begin(), seats.end(), std::size_t{0});
  int sweep = 0;
  for (bool rotated = true; rotated && sweep < kMaxSweeps; ++sweep) {
    rotated = false;
    for (std::size_t i = 0; i < r; ++i) norms[i] = padded_dot(a + i * ld, a + i * ld, ld);
    for (std::size_t round = 0; round + 1 < players; ++round) {
      for (std::size_t m = 0; m < players / 2; ++m) {
        pairs.left[m] = std::min(seats[m], seats[players - 1 - m]);
        pairs.right[m] = std::max(seats[m], seats[players - 1 - m]);
      }
      rotated |= rotate_pairs(a, v, pairs, ld, tolerance, norms);
      std::rotate(seats.begin() + 1, seats.end() - 1, seats.end());
    }
  }
  return sweep;
}

// Scores of kQ queries against kA atoms, reduced to the maximum over the atoms.
template <std::size_t kQ, std::size_t kA>
inline void score_tile(const float* queries, std::size_t query_stride, const float* atoms, std::size_t atom_stride,
                       std::size_t width, float* best) {
  f32v sum[kQ][kA] = {};
  std::size_t i = 0;
  for (; i + kWf <= width; i += kWf) {
    f32v q[kQ];
    for (std::size_t m = 0; m < kQ; ++m) q[m] = load(queries + m * query_stride + i);
    for (std::size_t n = 0; n < kA; ++n) {
      const f32v g = load(atoms + n * atom_stride + i);
      for (std::size_t m = 0; m < kQ; ++m) sum[m][n] = fma(q[m], g, sum[m][n]);
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
inline void score_rows(const float* queries, std::size_t query_stride, const float* atoms, std::size_t atom_count,
                       std::size_t atom_stride, std::size_t width, float* maxima, std::size_t maxima_stride) {
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

void block_maxima_f32(const float* queries, std::size_t query_count, std::size_t query_stride, const float* atoms,
                      std::size_t atom_count, std::size_t atom_stride, std::size_t width, float* maxima,
                      std::size_t maxima_stride) {
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

double exact_dot(const float* atom, const double* query, std::size_t width) {
  return headscan::dot(atom, query, width);
}

}  // namespace
}  // namespace headscan
