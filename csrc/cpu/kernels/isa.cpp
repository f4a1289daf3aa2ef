// Chooses the instruction set at run time.
#if defined(HEADSCAN_X86)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/kernels/kernels.hpp"
#include "headscan/info.hpp"

namespace headscan {
namespace {

#if defined(HEADSCAN_X86)
struct X86Features {
  bool avx2, avx512vnni;
};

// Asked of the processor itself: some toolchains link a compiler runtime whose __builtin_cpu_supports is always
// false. A set counts where the operating system saves its registers, too (XCR0: bits 1, 2 for ymm, and 5 to 7 for
// zmm).
X86Features x86_features() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kOsxsave = 1U << 27, kFma = 1U << 12;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsxsave) == 0) return {};
  const bool fma = (c & kFma) != 0;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return {};
  constexpr unsigned kAvx2 = 1U << 5, kVnni = 1U << 11;
  constexpr unsigned kAvx512 = 1U << 16 | 1U << 17 | 1U << 30 | 1U << 31;  // F, DQ, BW, VL
  const bool ymm = (low & 0x6) == 0x6, zmm = (low & 0xe6) == 0xe6;
  return {ymm && fma && (b & kAvx2) != 0, zmm && (b & kAvx512) == kAvx512 && (c & kVnni) != 0};
}
#endif

const std::vector<Kernels>& runnable() {
  static const std::vector<Kernels> isas = [] {
    std::vector<Kernels> listed;
#if defined(HEADSCAN_X86)
    const X86Features cpu = x86_features();
    if (cpu.avx512vnni) listed.push_back({kDenseAvx512Vnni, kInt8Avx512Vnni});
    if (cpu.avx2) listed.push_back({kDenseAvx2, kInt8Avx2});
#endif
    listed.push_back({kDensePortable, kInt8Portable});
    return listed;
  }();
  return isas;
}

}  // namespace

const Kernels& active_kernels() {
  const char* forced = std::getenv("HEADSCAN_ISA");
  if (forced == nullptr || *forced == '\0') return runnable().front();
  std::string names;
  for (const Kernels& isa : runnable()) {
    if (isa.dense.isa == std::string(forced)) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa.dense.isa);
  }
  throw std::invalid_argument("HEADSCAN_ISA must be one of " + names + " on this machine, got '" + forced + "'");
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels& isa : runnable()) names.emplace_back(isa.dense.isa);
  return names;
}

std::string active_isa() { return active_kernels().dense.isa; }

}  // namespace headscan
