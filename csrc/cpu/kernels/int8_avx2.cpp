// AVX2: bytes widened to int16, VPMADDWD pairs of products into int32. (VPMADDUBSW would saturate.)
#include <immintrin.h>

#include "cpu/kernels/int8_kernels.hpp"

namespace headscan {
namespace {

// Eight atoms against six queries: each sum[q][half] holds two partial sums of four atoms.
void dot_eight(const std::uint8_t* atoms, const std::int8_t* const* queries, std::size_t coarse_steps,
               std::size_t steps, int shift, std::int32_t* sums) {
  __m256i sum[kGroupQueries][2] = {};
  const auto add_steps = [&](std::size_t first, std::size_t end) {
    for (std::size_t step = first; step < end; ++step) {
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
  };
  add_steps(0, coarse_steps);
  for (auto& pair : sum) {
    for (__m256i& half : pair) half = _mm256_slli_epi32(half, shift);
  }
  add_steps(coarse_steps, steps);
  for (std::size_t q = 0; q < kGroupQueries; ++q) {
    const __m256i pairs = _mm256_hadd_epi32(sum[q][0], sum[q][1]);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + q * kBlockAtoms), _mm256_permute4x64_epi64(pairs, 0xD8));
  }
}

void dot_tile(const std::uint8_t* atoms, const std::int8_t* const* queries, std::size_t coarse_steps,
              std::size_t steps, int shift, std::int32_t* sums) {
  for (std::size_t atom = 0; atom < kBlockAtoms; atom += 8) {
    dot_eight(atoms + atom * 4, queries, coarse_steps, steps, shift, sums + atom);
  }
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

void narrow(const f32x16* lanes, std::uint8_t* bytes, u8x16* top) {
  __m128i largest = _mm_setzero_si128();
  for (std::size_t i = 0; i < kBlockAtoms / 16; ++i) {
    __m256 halves[2];
    std::memcpy(halves, &lanes[i], sizeof(lanes[i]));
    __m256i whole[2];
    for (std::size_t h = 0; h < 2; ++h) whole[h] = _mm256_cvttps_epi32(_mm256_min_ps(halves[h], _mm256_set1_ps(255)));
    const __m256i mixed = _mm256_permute4x64_epi64(_mm256_packs_epi32(whole[0], whole[1]), 0xD8);
    const __m128i sixteen = _mm_packus_epi16(_mm256_castsi256_si128(mixed), _mm256_extracti128_si256(mixed, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + i * 16), sixteen);
    largest = _mm_max_epu8(largest, sixteen);
  }
  *top = reinterpret_cast<u8x16>(largest);
}

void dot_rows(const std::uint8_t* rows, std::size_t row_bytes, const std::int8_t* codes, std::uint64_t atoms,
              std::int32_t* sums) {
  for (; atoms != 0; atoms &= atoms - 1) {
    const int i = __builtin_ctzll(atoms);
    const std::uint8_t* row = rows + static_cast<std::size_t>(i) * row_bytes;
    __m256i sum = _mm256_setzero_si256();
    for (std::size_t byte = 0; byte < row_bytes; byte += 16) {
      const __m128i atom = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + byte));
      const __m128i query = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + byte));
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_cvtepu8_epi16(atom), _mm256_cvtepi8_epi16(query)));
    }
    std::int32_t lanes[8];
    std::memcpy(lanes, &sum, sizeof(sum));
    sums[i] = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
  }
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

const Int8Kernels kInt8Avx2 = {"avx2", dot_tile, keep_scores, advance, by_atom, dot_rows, at_least};

}  // namespace headscan
