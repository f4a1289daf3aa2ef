// What follows the integer sums, in vectors of 16 lanes that the compiler splits as the instruction set needs.
// Included once by each int8_<isa>.cpp, which then defines dot_tile, at_least and the four below.
#include <cstring>

#include "cpu/int8.hpp"

namespace headscan {
namespace {

typedef float f32x16 __attribute__((vector_size(64)));
typedef std::int32_t i32x16 __attribute__((vector_size(64)));

// Each file says how, since compilers take the conversions apart lane by lane.
std::uint64_t sign_mask(i32x16 lanes);  // bit i: lane i is negative
std::int32_t largest_lane(i32x16 lanes);
i32x16 widen(const std::uint8_t* bytes);         // 16 bytes to lanes
void narrow(i32x16 lanes, std::uint8_t* bytes);  // and back; lanes hold 0 .. 255

template <class V, class T>
inline V read(const T* from) {
  V value;
  std::memcpy(&value, from, sizeof(V));
  return value;
}

inline f32x16 upper_bound(i32x16 sum, const BlockBounds& block, const QueryBounds& query, float norm, std::size_t i) {
  return __builtin_convertvector(sum, f32x16) * (read<f32x16>(block.scale + i) * query.scale) +
         read<f32x16>(block.error + i) * norm + query.slack;
}

std::uint8_t keep_scores(const std::int32_t* coarse, const std::int32_t* fine, const BlockBounds& block,
                         const QueryBounds& query, std::uint8_t* kept) {
  static_assert(kCoarseSegments == 2 && kSegments == 4, "the offsets below are of those segments");
  const std::int32_t offset =
      (query.offset[0] + query.offset[1]) * (1 << query.shift) + query.offset[2] + query.offset[3];
  i32x16 largest = {};
  for (std::size_t i = 0; i < kBlockAtoms; i += 16) {
    const i32x16 sum = (read<i32x16>(coarse + i) << query.shift) + read<i32x16>(fine + i) + offset;
    const f32x16 bound = upper_bound(sum, block, query, query.norm[kSegments - 1], i);
    const f32x16 positive = bound > 0.0F ? bound : f32x16{};
    const f32x16 capped = positive < 254.0F ? positive : f32x16{} + 254.0F;
    const i32x16 steps = __builtin_convertvector(capped, i32x16) + 1;  // truncated, plus one: never below
    largest = steps > largest ? steps : largest;
    narrow(steps, kept + i);
  }
  return static_cast<std::uint8_t>(largest_lane(largest));
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
