// Chooses the instruction set at run time.
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/kernels/dense.hpp"
#include "cpu/kernels/int8.hpp"
#include "headscan/info.hpp"

namespace headscan {
namespace {

struct Isa {
  const DenseKernels& dense;
  const Int8Kernels& int8;
};

const std::vector<Isa>& runnable() {
  static const std::vector<Isa> isas = [] {
    std::vector<Isa> found;
#if defined(HEADSCAN_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni")) {
      found.push_back({kDenseAvx512Vnni, kInt8Avx512Vnni});
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      found.push_back({kDenseAvx2, kInt8Avx2});
    }
#endif
    found.push_back({kDensePortable, kInt8Portable});
    return found;
  }();
  return isas;
}

const Isa& active() {
  const char* forced = std::getenv("HEADSCAN_ISA");
  if (forced == nullptr || *forced == '\0') return runnable().front();
  std::string names;
  for (const Isa& isa : runnable()) {
    if (isa.dense.isa == std::string(forced)) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa.dense.isa);
  }
  throw std::invalid_argument("HEADSCAN_ISA must be one of " + names + " on this machine, got '" + forced + "'");
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : runnable()) names.emplace_back(isa.dense.isa);
  return names;
}

const DenseKernels& dense_kernels() { return active().dense; }

const Int8Kernels& int8_kernels() { return active().int8; }

std::string active_isa() { return active().dense.isa; }

}  // namespace headscan
