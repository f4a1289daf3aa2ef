// The float64 inner product that decides every pick: eight running sums in a fixed order, never contracted to
// fused multiply-adds (see CMakeLists.txt), so the bits are the same on every machine and equal rows tie.
#pragma once

#include <cstddef>

namespace headscan {
namespace {  // a copy each translation unit: a shared one could be the copy for an instruction set not there

template <class A>
double dot(const A* a, const double* b, std::size_t n) {
  double sums[8] = {};
  std::size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (std::size_t lane = 0; lane < 8; ++lane) sums[lane] += static_cast<double>(a[i + lane]) * b[i + lane];
  }
  for (; i < n; ++i) sums[i % 8] += static_cast<double>(a[i]) * b[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace

}  // namespace headscan
