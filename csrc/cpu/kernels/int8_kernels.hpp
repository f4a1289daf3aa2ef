// What follows the integer sums, in vectors of 16 lanes that the compiler splits as the instruction set needs.
// Included once by each int8_<isa>.cpp, which then defines dot_tile, at_least and the three below.
#include <cstring>
#include <utility>

#include "cpu/kernels/int8.hpp"

namespace headscan {
namespace {

using f32x16 [[gnu::vector_size(64)]] = float;
using i32x16 [[gnu::vector_size(64)]] = std::int32_t;
using u8x16 [[gnu::vector_size(16)]] = std::uint8_t;

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

inline f32x16 upper_bound(i32x16 sum, const BlockBounds& block, const QueryBounds& query, std::size_t i) {
  return __builtin_convertvector(sum, f32x16) * (read<f32x16>(block.scale + i) * query.scale) +
         (read<f32x16>(block.error + i) * query.norm + query.slack);
}

// Lanes of a and b in turn, each the larger of two.
inline u8x16 merge(u8x16 a, u8x16 b) {
  const u8x16 low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const u8x16 high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  return low > high ? low : high;
}

void keep_scores(const std::int32_t* sums, const BlockBounds& block, const QueryBounds* queries, std::size_t count,
                 std::uint8_t* kept, std::uint8_t* maxima) {
  u8x16 tops[8] = {};
  for (std::size_t q = 0; q < count; ++q) {
    const QueryBounds& query = queries[q];
    f32x16 bounds[kBlockAtoms / 16];
    for (std::size_t i = 0; i < kBlockAtoms; i += 16) {
      const i32x16 sum = read<i32x16>(sums + q * kBlockAtoms + i) + query.offset;
      bounds[i / 16] = upper_bound(sum, block, query, i);
    }
    narrow(bounds, kept + q * kBlockAtoms, &tops[q]);
  }
  u8x16 most = merge(merge(merge(tops[0], tops[4]), merge(tops[2], tops[6])),
                     merge(merge(tops[1], tops[5]), merge(tops[3], tops[7])));  // lanes i and i + 8: of query i
  most = merge(most, most);                                                     // lane 2 i: of query i
  for (std::size_t q = 0; q < count; ++q) maxima[q] = most[2 * q];
}

template <bool kFirst>
inline std::uint64_t advance_sums(const std::int32_t* before, const std::int32_t* sums, const std::uint8_t* kept,
                                  const BlockBounds& block, const QueryBounds& query, std::int32_t* after) {
  std::uint64_t mask = 0;
  for (std::size_t i = 0; i < kBlockAtoms; i += 16) {
    i32x16 sum = (read<i32x16>(sums + i) + query.offset) << query.shift;
    if (!kFirst) sum += read<i32x16>(before + i);
    std::memcpy(after + i, &sum, sizeof(sum));
    const f32x16 bound = upper_bound(sum, block, query, i) +
                         __builtin_convertvector(widen(kept + i), f32x16) * query.kept +
                         read<f32x16>(block.beyond + i) * query.beyond;
    mask |= sign_mask(bound >= query.floor) << i;
  }
  return mask;
}

std::uint64_t advance(const std::int32_t* before, const std::int32_t* sums, const std::uint8_t* kept,
                      const BlockBounds& block, const QueryBounds& query, std::int32_t* after) {
  return before == nullptr ? advance_sums<true>(before, sums, kept, block, query, after)
                           : advance_sums<false>(before, sums, kept, block, query, after);
}

// Lanes of a and b (16 on) as `kLane` names them: both compilers have it, and neither the other's.
template <int... kLane>
inline i32x16 lanes_of(i32x16 a, i32x16 b) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, kLane...);
#else
  return __builtin_shuffle(a, b, i32x16{kLane...});
#endif
}

// Stage of a 16 x 16 transposition: rows `kDistance` apart swap the halves of every 2 * kDistance lanes.
template <unsigned kDistance, unsigned... kLane>
inline void swap_lanes(i32x16* rows, std::integer_sequence<unsigned, kLane...> /*0 to 15*/) {
  for (unsigned i = 0; i < 16; ++i) {
    if ((i & kDistance) != 0) continue;
    const i32x16 a = rows[i], b = rows[i + kDistance];
    rows[i] = lanes_of<static_cast<int>((kLane & kDistance) != 0 ? kLane - kDistance + 16 : kLane)...>(a, b);
    rows[i + kDistance] =
        lanes_of<static_cast<int>((kLane & kDistance) != 0 ? kLane + 16 : kLane + kDistance)...>(a, b);
  }
}

void by_atom(const std::uint8_t* atoms, std::size_t steps, std::size_t row_bytes, std::uint8_t* rows) {
  constexpr std::make_integer_sequence<unsigned, 16> lanes;
  for (std::size_t step = 0; step < row_bytes / 4; step += 16) {
    for (std::size_t atom = 0; atom < kBlockAtoms; atom += 16) {
      i32x16 tile[16];
      for (std::size_t i = 0; i < 16; ++i) {
        tile[i] = step + i < steps ? read<i32x16>(atoms + ((step + i) * kBlockAtoms + atom) * 4) : i32x16{};
      }
      swap_lanes<1>(tile, lanes);
      swap_lanes<2>(tile, lanes);
      swap_lanes<4>(tile, lanes);
      swap_lanes<8>(tile, lanes);
      for (std::size_t i = 0; i < 16; ++i) std::memcpy(rows + (atom + i) * row_bytes + step * 4, &tile[i], 64);
    }
  }
}

}  // namespace
}  // namespace headscan
