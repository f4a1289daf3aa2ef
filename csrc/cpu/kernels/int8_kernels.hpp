// What follows the integer sums, in vectors of 16 lanes that the compiler splits as the instruction set needs.
// Included once by each int8_<isa>.cpp, which then defines dot_tile, at_least and the three below.
#include <cstring>

#include "cpu/kernels/int8.hpp"

namespace headscan {
namespace {

typedef float f32x16 __attribute__((vector_size(64)));
typedef std::int32_t i32x16 __attribute__((vector_size(64)));
typedef std::uint8_t u8x16 __attribute__((vector_size(16)));

// Each file says how, since compilers take the conversions apart lane by lane.
std::uint64_t sign_mask(i32x16 lanes);    // bit i: lane i is negative
i32x16 widen(const std::uint8_t* bytes);  // 16 bytes to lanes
// 64 lanes above -2^31, truncated and cut to 0 .. 255; the largest byte is also the largest of `top`.
void narrow(const f32x16* lanes, std::uint8_t* bytes, u8x16* top);

template <class V, class T>
inline V read(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof(V));
  return value;
}

inline f32x16 upper_bound(i32x16 sum, const BlockBounds& block, const QueryBounds& query, float norm, std::size_t i) {
  return __builtin_convertvector(sum, f32x16) * (read<f32x16>(block.scale + i) * query.scale) +
         (read<f32x16>(block.error + i) * norm + query.slack);
}

// Lanes of a and b in turn, each the larger of two.
inline u8x16 merge(u8x16 a, u8x16 b) {
  const u8x16 low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const u8x16 high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return low > high ? low : high;
}

void keep_scores(const std::int32_t* sums, const BlockBounds& block, const QueryBounds* queries, std::size_t count,
                 std::uint8_t* kept, std::uint8_t* maxima) {
  static_assert(kCoarseSegments == 2 && kSegments == 4, "the offsets below are of those segments");
  u8x16 tops[8] = {};
  for (std::size_t q = 0; q < count; ++q) {
    const QueryBounds& query = queries[q];
    const std::int32_t offset =
        (query.offset[0] + query.offset[1]) * (1 << query.shift) + query.offset[2] + query.offset[3];
    f32x16 bounds[kBlockAtoms / 16];
    for (std::size_t i = 0; i < kBlockAtoms; i += 16) {
      const i32x16 sum = read<i32x16>(sums + q * kBlockAtoms + i) + offset;
      bounds[i / 16] = upper_bound(sum, block, query, query.norm[kSegments - 1], i);
    }
    narrow(bounds, kept + q * kBlockAtoms, &tops[q]);
  }
  u8x16 most = merge(merge(merge(tops[0], tops[4]), merge(tops[2], tops[6])),
                     merge(merge(tops[1], tops[5]), merge(tops[3], tops[7])));  // lanes i and i + 8: of query i
  most = merge(most, most);                                                     // lane 2 i: of query i
  for (std::size_t q = 0; q < count; ++q) maxima[q] = most[2 * q];
}

std::uint64_t advance(const std::int32_t* before, const std::int32_t* sums, std::size_t segment,
                      const std::uint8_t* kept, const BlockBounds& block, const QueryBounds& query, float floor,
                      std::int32_t* after) {
  std::uint64_t mask = 0;
  const int shift = segment < kCoarseSegments ? query.shift : 0;
  for (std::size_t i = 0; i < kBlockAtoms; i += 16) {
    i32x16 sum = (read<i32x16>(sums + i) + query.offset[segment]) << shift;
    if (segment > 0) sum += read<i32x16>(before + i);
    std::memcpy(after + i, &sum, sizeof(sum));
    const i32x16 steps = widen(kept + i);
    f32x16 bound =
        upper_bound(sum, block, query, query.norm[segment], i) + __builtin_convertvector(steps, f32x16) * query.kept;
    if (segment + 1 < kSegments) {
      bound += read<f32x16>(block.beyond + segment * kBlockAtoms + i) * query.beyond[segment];
    }
    mask |= sign_mask((bound >= floor) | (steps == 255)) << i;
  }
  return mask;
}

}  // namespace
}  // namespace headscan
