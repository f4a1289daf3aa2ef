// Chooses the instruction set at run time.
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/dense.hpp"
#include "headscan/info.hpp"

namespace headscan {
namespace {

const std::vector<const DenseKernels*>& runnable() {
  static const std::vector<const DenseKernels*> kernels = [] {
    std::vector<const DenseKernels*> found;
#if defined(HEADSCAN_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vnni")) {
      found.push_back(&kDenseAvx512Vnni);
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kDenseAvx2);
#endif
    found.push_back(&kDensePortable);
    return found;
  }();
  return kernels;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const auto* kernels : runnable()) names.emplace_back(kernels->isa);
  return names;
}

const DenseKernels& dense_kernels() {
  const char* forced = std::getenv("HEADSCAN_ISA");
  if (forced == nullptr || *forced == '\0') return *runnable().front();
  std::string names;
  for (const auto* kernels : runnable()) {
    if (kernels->isa == std::string(forced)) return *kernels;
    names += (names.empty() ? "" : ", ") + std::string(kernels->isa);
  }
  throw std::invalid_argument("HEADSCAN_ISA must be one of " + names + " on this machine, got '" + forced + "'");
}

std::string active_isa() { return dense_kernels().isa; }

bool built_with_cuda() {
#if defined(HEADSCAN_CUDA)
  return true;
#else
  return false;
#endif
}

}  // namespace headscan
