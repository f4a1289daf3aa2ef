// Gaussian test matrices: entry i of a stream depends on the seed and on i alone.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace headscan {

// SplitMix64 (Steele, Lea, Flood 2014): the i-th output of the stream that starts at `seed`.
inline std::uint64_t split_mix(std::uint64_t seed, std::uint64_t i) {
  std::uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

// Fills out[0 .. n) with entries first .. first + n - 1 of the stream, both even; Box and Muller's method.
template <class T>
void fill_gaussian(std::uint64_t seed, std::uint64_t first, std::size_t n, T* out) {
  constexpr double kTwoPi = 6.283185307179586;
  const std::uint64_t stream = split_mix(seed, 0);
  for (std::size_t i = 0; i < n; i += 2) {
    const double a = (static_cast<double>(split_mix(stream, first + i) >> 11U) + 0.5) * 0x1p-53;
    const double b = static_cast<double>(split_mix(stream, first + i + 1) >> 11U) * 0x1p-53;
    const double radius = std::sqrt(-2 * std::log(a));
    out[i] = static_cast<T>(radius * std::cos(kTwoPi * b));
    out[i + 1] = static_cast<T>(radius * std::sin(kTwoPi * b));
  }
}

}  // namespace headscan
