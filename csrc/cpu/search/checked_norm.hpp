// The norm of an atom, refusing what the searches cannot take.
#pragma once

#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>

namespace headscan {

// float64. Throws std::invalid_argument on NaN, infinity and rows too long for float32 products and sums.
static inline double checked_norm(const float* row, std::size_t width, std::size_t index) {
  double sum = 0;
  for (std::size_t i = 0; i < width; ++i) sum += static_cast<double>(row[i]) * static_cast<double>(row[i]);
  constexpr double kLongest = 1e15;
  if (!(sum < kLongest * kLongest)) {
    throw std::invalid_argument(
        "atoms must be finite unit rows; row " + std::to_string(index) +
        (std::isfinite(sum) ? " is far too long: normalise the rows" : " holds NaN or infinity"));
  }
  return std::sqrt(sum);
}

}  // namespace headscan
