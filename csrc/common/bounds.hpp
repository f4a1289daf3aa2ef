// What the bounds of the certified searches allow for, on the CPU and the GPU alike.
#pragma once

#include <cmath>
#include <cstddef>

namespace headscan {

inline constexpr double kFloatSlack = 4e-6;        // float32 rounding in the bounds, relative to |g| |q|
inline constexpr double kSmallestProduct = 1e-25;  // of |g| |q|: float32 holds what int8 scores are made of
inline constexpr std::size_t kSumLength = 128;     // products that a float32 sum runs over before it joins the others

// How far a float32 rotation can be from the exact one, relative to the vector's length: sums of kSumLength products,
// then of the partial sums; 8 more for rounding the vector and the rotation.
static inline double rotation_error(std::size_t width) {
  const std::size_t roundings = kSumLength + width / kSumLength + 8;
  return static_cast<double>(roundings) * 0x1p-24 * 1.01 * std::sqrt(static_cast<double>(width));
}

// float32 on the safe side of a float64 value. (Static: a shared copy could be one for an instruction set not there.)
static inline float rounded_up(double value) { return static_cast<float>(value * (1 + 1e-6)); }  // of values >= 0
static inline float rounded_down(double value) { return static_cast<float>(value - std::abs(value) * 1e-6); }

}  // namespace headscan
