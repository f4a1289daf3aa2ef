// AVX-512 VNNI: VPDPBUSD multiplies 64 pairs of u8 and s8 and adds them four by four into 16 int32 lanes.
//
// The tile is inline assembly: compilers spill accumulators around the intrinsic. zmm8-31 hold the 6 x 64 sums,
// zmm0-3 four values of 64 atoms, zmm4-7 one query's four values in every lane. Ten loads for 24 multiply-adds.
#include <immintrin.h>

#include "cpu/kernels/int8_kernels.hpp"

namespace headscan {
namespace {

#define HS_DOT(sums, atoms, query) "vpdpbusd %%zmm" #query ", %%zmm" #atoms ", %%zmm" #sums "\n\t"
#define HS_QUERY(row, query, s0, s1, s2, s3)                                                         \
  "vpbroadcastd (%[" #row "],%[i],4), %%zmm" #query "\n\t" HS_DOT(s0, 0, query) HS_DOT(s1, 1, query) \
      HS_DOT(s2, 2, query) HS_DOT(s3, 3, query)
#define HS_ZERO(s) "vpxord %%zmm" #s ", %%zmm" #s ", %%zmm" #s "\n\t"
#define HS_ZERO4(a, b, c, d) HS_ZERO(a) HS_ZERO(b) HS_ZERO(c) HS_ZERO(d)
#define HS_STORE(s, offset) "vmovdqu64 %%zmm" #s ", " #offset "(%[sums])\n\t"
#define HS_STORE4(a, b, c, d, o0, o1, o2, o3) HS_STORE(a, o0) HS_STORE(b, o1) HS_STORE(c, o2) HS_STORE(d, o3)

#define HS_SHIFT(s) "vpslld %%xmm4, %%zmm" #s ", %%zmm" #s "\n\t"
#define HS_SHIFT4(a, b, c, d) HS_SHIFT(a) HS_SHIFT(b) HS_SHIFT(c) HS_SHIFT(d)
#define HS_STEPS(label, end) \
  ".p2align 5\n" #label                        \
  ":\n\t"                                      \
  "vmovdqu64 (%[atoms]), %%zmm0\n\t"           \
  "vmovdqu64 64(%[atoms]), %%zmm1\n\t"         \
  "vmovdqu64 128(%[atoms]), %%zmm2\n\t"        \
  "vmovdqu64 192(%[atoms]), %%zmm3\n\t"        \
  HS_QUERY(q0, 4, 8, 9, 10, 11)                \
  HS_QUERY(q1, 5, 12, 13, 14, 15)              \
  HS_QUERY(q2, 6, 16, 17, 18, 19)              \
  HS_QUERY(q3, 7, 20, 21, 22, 23)              \
  HS_QUERY(q4, 4, 24, 25, 26, 27)              \
  HS_QUERY(q5, 5, 28, 29, 30, 31)              \
  "add $256, %[atoms]\n\t"                     \
  "inc %[i]\n\t"                               \
  "cmp %[" #end "], %[i]\n\t"                  \
  "jb " #label "b\n\t"

void dot_tile(const std::uint8_t* atoms, const std::int8_t* const* queries, std::size_t coarse_steps,
              std::size_t steps, int shift, std::int32_t* sums) {
  std::size_t i = 0;
  // clang-format off
  asm volatile(
      HS_ZERO4(8, 9, 10, 11) HS_ZERO4(12, 13, 14, 15) HS_ZERO4(16, 17, 18, 19)
      HS_ZERO4(20, 21, 22, 23) HS_ZERO4(24, 25, 26, 27) HS_ZERO4(28, 29, 30, 31)
      "cmp %[coarse_steps], %[i]\n\t"
      "jae 2f\n\t"
      HS_STEPS(1, coarse_steps)
      "vmovd %[shift], %%xmm4\n\t"
      HS_SHIFT4(8, 9, 10, 11) HS_SHIFT4(12, 13, 14, 15) HS_SHIFT4(16, 17, 18, 19)
      HS_SHIFT4(20, 21, 22, 23) HS_SHIFT4(24, 25, 26, 27) HS_SHIFT4(28, 29, 30, 31)
      "2:\n\t"
      "cmp %[steps], %[i]\n\t"
      "jae 4f\n\t"
      HS_STEPS(3, steps)
      "4:\n\t"
      HS_STORE4(8, 9, 10, 11, 0, 64, 128, 192)
      HS_STORE4(12, 13, 14, 15, 256, 320, 384, 448)
      HS_STORE4(16, 17, 18, 19, 512, 576, 640, 704)
      HS_STORE4(20, 21, 22, 23, 768, 832, 896, 960)
      HS_STORE4(24, 25, 26, 27, 1024, 1088, 1152, 1216)
      HS_STORE4(28, 29, 30, 31, 1280, 1344, 1408, 1472)
      : [atoms] "+r"(atoms), [i] "+r"(i)
      : [coarse_steps] "m"(coarse_steps), [steps] "r"(steps), [shift] "m"(shift), [sums] "r"(sums),
        [q0] "r"(queries[0]), [q1] "r"(queries[1]), [q2] "r"(queries[2]), [q3] "r"(queries[3]),
        [q4] "r"(queries[4]), [q5] "r"(queries[5])
      : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",
        "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
  // clang-format on
}

std::uint64_t sign_mask(i32x16 lanes) { return _mm512_movepi32_mask(reinterpret_cast<__m512i>(lanes)); }

i32x16 widen(const std::uint8_t* bytes) {
  return reinterpret_cast<i32x16>(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes))));
}

void narrow(const f32x16* lanes, std::uint8_t* bytes, u8x16* top) {
  const auto in = [&](std::size_t i) {
    return _mm512_cvttps_epi32(_mm512_min_ps(reinterpret_cast<const __m512&>(lanes[i]), _mm512_set1_ps(255)));
  };
  const __m512i mixed = _mm512_packus_epi16(_mm512_packs_epi32(in(0), in(1)), _mm512_packs_epi32(in(2), in(3)));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i all = _mm512_permutexvar_epi32(order, mixed);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(bytes), all);  // next read by another task: its lock orders this
  const __m256i half = _mm256_max_epu8(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  *top = reinterpret_cast<u8x16>(_mm_max_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
}

void dot_rows(const std::uint8_t* rows, std::size_t row_bytes, const std::int8_t* codes, std::uint64_t atoms,
              std::int32_t* sums) {
  for (; atoms != 0; atoms &= atoms - 1) {
    const int i = __builtin_ctzll(atoms);
    const std::uint8_t* row = rows + static_cast<std::size_t>(i) * row_bytes;
    __m512i sum = _mm512_setzero_si512();
    for (std::size_t byte = 0; byte < row_bytes; byte += 64) {
      sum = _mm512_dpbusd_epi32(sum, _mm512_loadu_si512(row + byte), _mm512_loadu_si512(codes + byte));
    }
    sums[i] = _mm512_reduce_add_epi32(sum);
  }
}

std::uint64_t at_least(const std::uint8_t* values, const std::uint8_t* floors) {
  return _mm512_cmpge_epu8_mask(_mm512_loadu_si512(values), _mm512_loadu_si512(floors));
}

}  // namespace

const Int8Kernels kInt8Avx512Vnni = {"avx512vnni", dot_tile, keep_scores, advance, by_atom, dot_rows, at_least};

}  // namespace headscan
