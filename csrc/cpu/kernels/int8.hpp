// int8 kernels of the certified search, one translation unit per instruction set (int8_avx512vnni.cpp,
// int8_avx2.cpp, int8_portable.cpp). Integer sums are exact, so they agree to the last bit everywhere.
#pragma once

#include <cstddef>
#include <cstdint>

#include "headscan/pack.hpp"

namespace headscan {

inline constexpr std::size_t kGroupQueries = 6;  // queries a tile: 6 x 64 sums fill 24 zmm accumulators

// What bounds the scores of one block of atoms: (64) each, beyond (kSegments - 1, 64).
struct BlockBounds {
  const float *scale, *error, *beyond;
};

// What bounds the scores of one query, in units of the score or of one step of the kept byte. After segment s,
//   score <= kept * byte + scale_i * scale * sum + error_i * norm[s] + beyond_i[s] * beyond[s] + slack
// with the last term of the atom zero after the last segment.
struct QueryBounds {
  float kept = 0, scale = 0, slack = 0;
  float norm[kSegments] = {}, beyond[kSegments] = {};
  std::int32_t offset[kSegments] = {};  // -128 * sum of the query's codes, for atoms stored as value + 128
  int shift = 0;                        // sums of coarse segments count 2^shift
};

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

  // after = before + the sums of one segment (before is not read in segment 0). Bit i of the result is set where the
  // upper bound of atom i still reaches `floor`, or its kept byte is 255.
  std::uint64_t (*advance)(const std::int32_t* before, const std::int32_t* sums, std::size_t segment,
                           const std::uint8_t* kept, const BlockBounds& block, const QueryBounds& query, float floor,
                           std::int32_t* after);

  // Bit i of 64 is set where values[i] >= floors[i].
  std::uint64_t (*at_least)(const std::uint8_t* values, const std::uint8_t* floors);
};

extern const Int8Kernels kInt8Portable;
#if defined(HEADSCAN_X86)
extern const Int8Kernels kInt8Avx2;
extern const Int8Kernels kInt8Avx512Vnni;
#endif

// The kernels for active_isa().
const Int8Kernels& int8_kernels();

}  // namespace headscan
