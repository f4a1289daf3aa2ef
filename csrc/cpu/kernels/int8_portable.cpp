// Plain C++ that any compiler turns into something decent.
#include "cpu/kernels/int8_kernels.hpp"

namespace headscan {
namespace {

void dot_tile(const std::uint8_t* atoms, const std::int8_t* const* queries, std::size_t coarse_steps,
              std::size_t steps, int shift, std::int32_t* sums) {
  std::memset(sums, 0, kGroupQueries * kBlockAtoms * sizeof(*sums));
  for (std::size_t step = 0; step < steps; ++step, atoms += kBlockAtoms * 4) {
    const std::int32_t weight = step < coarse_steps ? 1 << shift : 1;
    for (std::size_t q = 0; q < kGroupQueries; ++q) {
      std::int32_t four[4];
      for (std::size_t i = 0; i < 4; ++i) four[i] = queries[q][step * 4 + i] * weight;
      std::int32_t* row = sums + q * kBlockAtoms;
      for (std::size_t i = 0; i < kBlockAtoms; ++i) {
        row[i] += atoms[i * 4] * four[0] + atoms[i * 4 + 1] * four[1] + atoms[i * 4 + 2] * four[2] +
                  atoms[i * 4 + 3] * four[3];
      }
    }
  }
}

std::uint64_t sign_mask(i32x16 lanes) {
  std::uint64_t mask = 0;
  for (std::size_t i = 0; i < 16; ++i) mask |= static_cast<std::uint64_t>(lanes[i] < 0) << i;
  return mask;
}

i32x16 widen(const std::uint8_t* bytes) {
  i32x16 lanes;
  for (std::size_t i = 0; i < 16; ++i) lanes[i] = bytes[i];
  return lanes;
}

void narrow(const f32x16* lanes, std::uint8_t* bytes, u8x16* top) {
  u8x16 largest = {};
  for (std::size_t i = 0; i < kBlockAtoms; ++i) {
    const float lane = lanes[i / 16][i % 16];
    bytes[i] = static_cast<std::uint8_t>(lane < 0.0F ? 0.0F : lane < 255.0F ? lane : 255.0F);
    if (bytes[i] > largest[i % 16]) largest[i % 16] = bytes[i];
  }
  *top = largest;
}

void dot_rows(const std::uint8_t* rows, std::size_t row_bytes, const std::int8_t* codes, std::uint64_t atoms,
              std::int32_t* sums) {
  for (; atoms != 0; atoms &= atoms - 1) {
    const int i = __builtin_ctzll(atoms);
    const std::uint8_t* row = rows + static_cast<std::size_t>(i) * row_bytes;
    sums[i] = 0;
    for (std::size_t byte = 0; byte < row_bytes; ++byte) sums[i] += row[byte] * codes[byte];
  }
}

std::uint64_t at_least(const std::uint8_t* values, const std::uint8_t* floors) {
  std::uint64_t mask = 0;
  for (std::size_t i = 0; i < 64; ++i) mask |= static_cast<std::uint64_t>(values[i] >= floors[i]) << i;
  return mask;
}

}  // namespace

const Int8Kernels kInt8Portable = {"portable", dot_tile, keep_scores, advance, by_atom, dot_rows, at_least};

}  // namespace headscan
