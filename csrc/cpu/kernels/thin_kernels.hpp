// Products of a large matrix with a thin one, near the machine's fused multiply-add rate. Included by each
// dense_<isa>.cpp after dense_kernels.hpp, inside the same anonymous namespace.
//
// A tile is broadcasts of the large matrix against vectors of the thin one, all sums in registers: 5 x 5 of 32
// registers for AVX-512 (8 x 3 transposed), 4 x 3 of 16 for AVX2. The thin matrix streams from the second-level
// cache. Columns of the large matrix lie a row length apart, often a power of two, so the transposed product first
// copies a block of them, kTileColumns side by side; both products fetch the block after the present one ahead of its
// use.
#pragma once

namespace headscan {
namespace {

constexpr std::size_t kTileRows = HEADSCAN_W == 8 ? 5 : 4;
constexpr std::size_t kTileColumns = HEADSCAN_W == 8 ? 8 : 4;
constexpr std::size_t most_vectors(std::size_t rows) {
  return HEADSCAN_W == 8 ? (rows > kTileRows ? 3 : 5) : HEADSCAN_W == 4 ? 3 : 2;
}
constexpr std::size_t kDepth = 4 * kSumLength;  // rows of the thin matrix kept in cache
constexpr std::size_t kBlock = 320;             // columns of the large matrix copied at a time
constexpr std::size_t kLineBytes = 64;

// c tile (kRows, kVectors vectors) = or += the sum over p < inner of a(row, p) * b(p, :).
template <std::size_t kRows, std::size_t kVectors, bool kTransposed, class V, class T>
inline void thin_tile(const T* a, std::size_t lda, const T* b, std::size_t inner, std::size_t ld, T* c,
                      bool accumulate) {
  constexpr std::size_t kLanes = sizeof(V) / sizeof(T);
  V sum[kRows][kVectors] = {};
  for (std::size_t p = 0; p < inner; ++p) {
    V values[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) values[v] = load(b + p * ld + v * kLanes);
    for (std::size_t row = 0; row < kRows; ++row) {
      const V scalar = (kTransposed ? a[p * lda + row] : a[row * lda + p]) - V{};
      for (std::size_t v = 0; v < kVectors; ++v) sum[row][v] = fma(scalar, values[v], sum[row][v]);
    }
  }
  for (std::size_t row = 0; row < kRows; ++row) {
    for (std::size_t v = 0; v < kVectors; ++v) {
      T* to = c + row * ld + v * kLanes;
      store(to, accumulate ? load(to) + sum[row][v] : sum[row][v]);
    }
  }
}

// The tile of as many vectors as asked for, at most kVectors.
template <std::size_t kRows, std::size_t kVectors, bool kTransposed, class V, class T>
inline void thin_tile_of(std::size_t vectors, const T* a, std::size_t lda, const T* b, std::size_t inner,
                         std::size_t ld, T* c, bool accumulate) {
  if constexpr (kVectors > 1) {
    if (vectors < kVectors) {
      return thin_tile_of<kRows, kVectors - 1, kTransposed, V>(vectors, a, lda, b, inner, ld, c, accumulate);
    }
  }
  thin_tile<kRows, kVectors, kTransposed, V>(a, lda, b, inner, ld, c, accumulate);
}

// The same over all columns of b: as many vectors at a time as a tile holds, evenly shared.
template <std::size_t kRows, bool kTransposed, class V, class T>
inline void thin_rows(const T* a, std::size_t lda, const T* b, std::size_t inner, std::size_t ld, T* c,
                      bool accumulate) {
  constexpr std::size_t kLanes = sizeof(V) / sizeof(T), kMost = most_vectors(kRows);
  std::size_t left = ld / kLanes;
  for (std::size_t groups = (left + kMost - 1) / kMost; groups > 0; --groups) {
    const std::size_t vectors = (left + groups - 1) / groups;
    thin_tile_of<kRows, kMost, kTransposed, V>(vectors, a, lda, b, inner, ld, c, accumulate);
    b += vectors * kLanes;
    c += vectors * kLanes;
    left -= vectors;
  }
}

template <class T>
inline void prefetch_rows(const T* a, std::size_t lda, std::size_t rows, std::size_t length) {
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < length; i += kLineBytes / sizeof(T)) __builtin_prefetch(a + row * lda + i, 0, 2);
  }
}

template <class V, class T>
void thin_multiply(const T* a, std::size_t lda, const T* b, std::size_t rows, std::size_t inner, std::size_t ld,
                   T* c) {
  if (inner == 0) std::fill(c, c + rows * ld, T{0});
  for (std::size_t depth = 0; depth < inner; depth += kDepth) {
    const std::size_t end = std::min(inner, depth + kDepth);
    for (std::size_t row = 0; row < rows;) {
      const bool whole = row + kTileRows <= rows;
      const std::size_t taken = whole ? kTileRows : 1, after = row + taken;
      const std::size_t ahead = std::min(kTileRows, rows - after);
      for (std::size_t p = depth; p < end; p += kSumLength) {
        const std::size_t length = std::min(kSumLength, end - p);
        prefetch_rows(a + after * lda + p, lda, ahead, length);
        if (whole) {
          thin_rows<kTileRows, false, V>(a + row * lda + p, lda, b + p * ld, length, ld, c + row * ld, p > 0);
        } else {
          thin_rows<1, false, V>(a + row * lda + p, lda, b + p * ld, length, ld, c + row * ld, p > 0);
        }
      }
      row = after;
    }
  }
}

// packed[g][p][j] = a(p, g * kTileColumns + j) for p < length and g * kTileColumns + j < width. Groups are kGroup
// rows of kTileColumns apart, no power of two, or all would fall into the same lines of the cache.
constexpr std::size_t kGroup = kSumLength + 2;
template <class T>
inline void pack_columns(const T* a, std::size_t lda, std::size_t length, std::size_t width, T* packed) {
  for (std::size_t p = 0; p < length; ++p) {
    std::size_t column = 0;
    for (; column + kTileColumns <= width; column += kTileColumns) {
      std::memcpy(packed + column * kGroup + p * kTileColumns, a + p * lda + column, kTileColumns * sizeof(T));
    }
    std::memcpy(packed + column * kGroup + p * kTileColumns, a + p * lda + column, (width - column) * sizeof(T));
  }
}

template <class V, class T>
void thin_multiply_transposed(const T* a, std::size_t lda, const T* b, std::size_t inner, std::size_t columns,
                              std::size_t ld, T* c) {
  constexpr std::size_t kRowsAhead = (kSumLength * kTileColumns + kBlock - 1) / kBlock;
  alignas(kLineBytes) T packed[kGroup * kBlock];
  if (inner == 0) std::fill(c, c + columns * ld, T{0});
  for (std::size_t first = 0; first < columns; first += kBlock) {
    const std::size_t width = std::min(kBlock, columns - first);
    for (std::size_t p = 0; p < inner; p += kSumLength) {
      const std::size_t length = std::min(kSumLength, inner - p);
      pack_columns(a + p * lda + first, lda, length, width, packed);
      std::size_t next = p + length;
      for (std::size_t column = 0; column < width; column += kTileColumns) {
        const std::size_t row = next < inner ? next : std::min(inner, next - inner);  // the columns after these
        const std::size_t from = std::min(columns, next < inner ? first : first + kBlock);
        prefetch_rows(a + row * lda + from, lda, std::min(kRowsAhead, inner - row), std::min(kBlock, columns - from));
        next += kRowsAhead;
        const T* group = packed + column * kGroup;
        T* to = c + (first + column) * ld;
        if (column + kTileColumns <= width) {
          thin_rows<kTileColumns, true, V>(group, kTileColumns, b + p * ld, length, ld, to, p > 0);
        } else {
          for (std::size_t j = 0; j < width - column; ++j) {
            thin_rows<1, true, V>(group + j, kTileColumns, b + p * ld, length, ld, to + j * ld, p > 0);
          }
        }
      }
    }
  }
}

template <class T>
double sum_squares(const T* a, std::size_t n) {
  constexpr std::size_t kSums = 32;
  double sums[kSums] = {};
  std::size_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (std::size_t lane = 0; lane < kSums; ++lane) {
      const auto value = static_cast<double>(a[i + lane]);
      sums[lane] += value * value;
    }
  }
  for (; i < n; ++i) sums[i % kSums] += static_cast<double>(a[i]) * static_cast<double>(a[i]);
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

template <class V, class T>
constexpr ThinKernels<T> thin_kernels() {
  return {thin_multiply<V, T>, thin_multiply_transposed<V, T>, sum_squares<T>};
}

}  // namespace
}  // namespace headscan
