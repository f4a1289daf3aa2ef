// Measured peaks of this machine: int8 multiply-adds (VPDPBUSD on zmm), float32 multiply-adds (FMA on zmm) and memory
// reads. Independent accumulators in registers and no memory traffic for the first two, so that nothing but the
// arithmetic units limits them. Each returns a rate per second over all threads, or -1 where the CPU lacks the
// instruction. Compiled and loaded by peaks.py.
#include <immintrin.h>

#include <chrono>
#include <cstddef>
#include <thread>
#include <vector>

namespace {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Runs `work` (which returns what it did) on every thread until the time is up; the sum of the threads' own rates.
template <typename Work>
double rate(int threads, double seconds, Work work) {
  std::vector<double> rates(static_cast<std::size_t>(threads));
  std::vector<std::thread> workers;
  for (int t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      work(t);  // warm
      const double start = now_seconds();
      double done = 0, elapsed = 0;
      while (elapsed < seconds) {
        done += work(t);
        elapsed = now_seconds() - start;
      }
      rates[static_cast<std::size_t>(t)] = done / elapsed;
    });
  }
  for (auto& worker : workers) worker.join();
  double total = 0;
  for (const double value : rates) total += value;
  return total;
}

constexpr int kIterations = 200000;
constexpr int kAccumulators = 24;  // more than latency times throughput on any CPU so far

// Volatile, and in one block, so that the compiler neither drops nor reorders nor spills.
#define ROW(op, base)                                                                        \
  op " %%zmm30, %%zmm31, %%zmm" #base "0\n\t" op " %%zmm30, %%zmm31, %%zmm" #base "1\n\t" op \
     " %%zmm30, %%zmm31, %%zmm" #base "2\n\t" op " %%zmm30, %%zmm31, %%zmm" #base "3\n\t" op \
     " %%zmm30, %%zmm31, %%zmm" #base "4\n\t" op " %%zmm30, %%zmm31, %%zmm" #base "5\n\t" op \
     " %%zmm30, %%zmm31, %%zmm" #base "6\n\t" op " %%zmm30, %%zmm31, %%zmm" #base "7\n\t"
#define ZERO(r) "vpxorq %%zmm" #r ", %%zmm" #r ", %%zmm" #r "\n\t"
#define KERNEL(op)                                                                                                  \
  long count = kIterations;                                                                                         \
  asm volatile(ZERO(0) ZERO(1) ZERO(2) ZERO(3) ZERO(4) ZERO(5) ZERO(6) ZERO(7) ZERO(10) ZERO(11) ZERO(12) ZERO(13)  \
                   ZERO(14) ZERO(15) ZERO(16) ZERO(17) ZERO(20) ZERO(21) ZERO(22) ZERO(23) ZERO(24) ZERO(25)        \
                       ZERO(26) ZERO(27) ZERO(30) ZERO(31) "1:\n\t" ROW(op, ) ROW(op, 1)                            \
                           ROW(op, 2) "dec %0\n\tjnz 1b\n\tvzeroupper"                                              \
               : "+r"(count)                                                                                        \
               :                                                                                                    \
               : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",     \
                 "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm20", "xmm21", "xmm22", "xmm23", \
                 "xmm24", "xmm25", "xmm26", "xmm27", "xmm30", "xmm31")

__attribute__((target("avx512f"))) double int8_block(int) {
  KERNEL("vpdpbusd");
  return 64.0 * kAccumulators * kIterations;
}

__attribute__((target("avx512f"))) double float32_block(int) {
  KERNEL("vfmadd231ps");
  return 16.0 * kAccumulators * kIterations;
}

__attribute__((target("avx512f"))) double read_block(const std::vector<float>& data) {
  __m512 sums[8] = {};
  for (std::size_t i = 0; i + 128 <= data.size(); i += 128)
    for (std::size_t j = 0; j < 8; ++j) sums[j] = _mm512_add_ps(sums[j], _mm512_loadu_ps(data.data() + i + 16 * j));
  for (int j = 1; j < 8; ++j) sums[0] = _mm512_add_ps(sums[0], sums[j]);
  volatile float sink = _mm512_reduce_add_ps(sums[0]);
  (void)sink;
  return 4.0 * static_cast<double>(data.size());
}

}  // namespace

extern "C" {

double int8_multiply_adds(int threads, double seconds) {
  return __builtin_cpu_supports("avx512vnni") ? rate(threads, seconds, int8_block) : -1;
}

double float32_multiply_adds(int threads, double seconds) {
  return __builtin_cpu_supports("avx512f") ? rate(threads, seconds, float32_block) : -1;
}

double bytes_read(int threads, double seconds) {
  if (!__builtin_cpu_supports("avx512f")) return -1;
  const std::vector<std::vector<float>> data(static_cast<std::size_t>(threads), std::vector<float>(1u << 26, 1.0f));
  return rate(threads, seconds, [&](int t) { return read_block(data[static_cast<std::size_t>(t)]); });
}
}
