// AVX2: bytes widened to int16, VPMADDWD pairs of products into int32. (VPMADDUBSW would saturate.)
#include <immintrin.h>

#include "cpu/int8_kernels.hpp"

namespace headscan {
namespace {

// Eight atoms against six queries: each sum[q][half] holds two partial sums of four atoms.
void dot_eight(const std::uint8_t* atoms, const std::int8_t* const* queries, std::size_t steps, std::int32_t* sums) {
  __m256i sum[kGroupQueries][2] = {};
  for (std::size_t step = 0; step < steps; ++step) {
    const auto* from = reinterpret_cast<const __m128i*>(atoms + step * kBlockAtoms * 4);
    const __m256i low = _mm256_cvtepu8_epi16(_mm_loadu_si128(from));
    const __m256i high = _mm256_cvtepu8_epi16(_mm_loadu_si128(from + 1));
    for (std::size_t q = 0; q < kGroupQueries; ++q) {
      std::int32_t four;
      std::memcpy(&four, queries[q] + step * 4, sizeof(four));
      const __m256i query = _mm256_cvtepi8_epi16(_mm_set1_epi32(four));
      sum[q][0] = _mm256_add_epi32(sum[q][0], _mm256_madd_epi16(low, query));
      sum[q][1] = _mm256_add_epi32(sum[q][1], _mm256_madd_epi16(high, query));
    }
  }
  for (std::size_t q = 0; q < kGroupQueries; ++q) {
    const __m256i pairs = _mm256_hadd_epi32(sum[q][0], sum[q][1]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + q * kBlockAtoms), _mm256_permute4x64_epi64(pairs, 0xD8));
  }
}

void dot_tile(const std::uint8_t* atoms, const std::int8_t* const* queries, std::size_t steps, std::int32_t* sums) {
  for (std::size_t atom = 0; atom < kBlockAtoms; atom += 8) dot_eight(atoms + atom * 4, queries, steps, sums + atom);
}

std::uint64_t sign_mask(i32x16 lanes) {
  __m256 halves[2];
  std::memcpy(halves, &lanes, sizeof(lanes));
  const auto low = static_cast<unsigned>(_mm256_movemask_ps(halves[0]));
  return low | static_cast<unsigned>(_mm256_movemask_ps(halves[1])) << 8;
}

i32x16 widen(const std::uint8_t* bytes) {
  const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
  const __m256i halves[2] = {_mm256_cvtepu8_epi32(packed), _mm256_cvtepu8_epi32(_mm_srli_si128(packed, 8))};
  return read<i32x16>(halves);
}

std::int32_t largest_lane(i32x16 lanes) {
  std::int32_t top = lanes[0];
  for (std::size_t i = 1; i < 16; ++i) top = lanes[i] > top ? lanes[i] : top;
  return top;
}

void narrow(i32x16 lanes, std::uint8_t* bytes) {  // lanes hold 0 .. 255
  __m128i quarters[4];
  std::memcpy(quarters, &lanes, sizeof(lanes));
  const __m128i low = _mm_packus_epi32(quarters[0], quarters[1]), high = _mm_packus_epi32(quarters[2], quarters[3]);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), _mm_packus_epi16(low, high));
}

std::uint64_t at_least(const std::uint8_t* values, const std::uint8_t* floors) {
  std::uint64_t mask = 0;
  for (std::size_t i = 0; i < 64; i += 32) {
    const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values + i));
    const __m256i floor = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(floors + i));
    const __m256i equal = _mm256_cmpeq_epi8(_mm256_max_epu8(value, floor), value);
    mask |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(_mm256_movemask_epi8(equal))) << i;
  }
  return mask;
}

}  // namespace

const Int8Kernels kInt8Avx2 = {"avx2", dot_tile, keep_scores, advance, at_least};

}  // namespace headscan
