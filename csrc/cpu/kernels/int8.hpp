// int8 kernels of the certified search, one translation unit per instruction set (int8_avx512vnni.cpp,
// int8_avx2.cpp, int8_portable.cpp). Integer sums are exact, so they agree to the last bit everywhere.
#pragma once

#include <cstddef>
#include <cstdint>

#include "headscan/pack.hpp"

namespace headscan {

inline constexpr std::size_t kGroupQueries = 6;  // queries a tile: 6 x 64 sums fill 24 zmm accumulators

// What bounds the scores of one block of atoms over some segments: (64) each; beyond the last of them.
struct BlockBounds {
  const float *scale, *error, *beyond;
};

// What bounds the scores of one query over some segments, in units of the score or of one step of the kept byte:
//   score <= kept * byte + scale_i * scale * sum + error_i * norm + beyond_i * beyond + slack
struct QueryBounds {
  float scale = 0, slack = 0, norm = 0, beyond = 0, kept = 0;
  float floor = 0;          // a score known to be reached
  std::int32_t offset = 0;  // -128 * sum of the query's codes, for atoms stored as value + 128
  int shift = 0;            // the sum counts 2^shift
};

// Rows of codes with room for whole vectors.
inline constexpr std::size_t kRowAlignment = 64;
inline constexpr std::size_t padded_row(std::size_t bytes) {
  return (bytes + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
}

struct Int8Kernels {
  const char* isa;

  // sums (6, 64) = products of six query rows with one block, over `steps` times four values, those of the first
  // `coarse_steps` counted 2^shift times.
  void (*dot_tile)(const std::uint8_t* atoms, const std::int8_t* const* queries, std::size_t coarse_steps,
                   std::size_t steps, int shift, std::int32_t* sums);

  // kept (count, 64), 64-byte aligned, = the upper bounds of one block's scores for count <= 6 queries, in steps, cut
  // to 0 .. 255; maxima (count) = the largest of each row.
  void (*keep_scores)(const std::int32_t* sums, const BlockBounds& block, const QueryBounds* queries,
                      std::size_t count, std::uint8_t* kept, std::uint8_t* maxima);

  // after = before (null: zero) + the sums of one segment. Bit i of the result is set where the upper bound of atom i
  // still reaches the query's floor.
  std::uint64_t (*advance)(const std::int32_t* before, const std::int32_t* sums, const std::uint8_t* kept,
                           const BlockBounds& block, const QueryBounds& query, std::int32_t* after);

  // rows (64, row_bytes) = the codes of `steps` times four values of one block, atom by atom, zero up to the padding.
  void (*by_atom)(const std::uint8_t* atoms, std::size_t steps, std::size_t row_bytes, std::uint8_t* rows);

  // sums[i] = the product of row i of rows (64, row_bytes), a multiple of kRowAlignment, with codes readable as far
  // as the padding, for the set bits i of `atoms` alone.
  void (*dot_rows)(const std::uint8_t* rows, std::size_t row_bytes, const std::int8_t* codes, std::uint64_t atoms,
                   std::int32_t* sums);

  // Bit i of 64 is set where values[i] >= floors[i].
  std::uint64_t (*at_least)(const std::uint8_t* values, const std::uint8_t* floors);
};

extern const Int8Kernels kInt8Portable;
#if defined(HEADSCAN_X86)
extern const Int8Kernels kInt8Avx2;
extern const Int8Kernels kInt8Avx512Vnni;
#endif

}  // namespace headscan
