#include "cpu/search/quantise.hpp"

#include <algorithm>
#include <cmath>

namespace headscan {
namespace {

float largest(const float* values, std::size_t count) {
  float out = 0;
  for (std::size_t i = 0; i < count; ++i) out = std::max(out, std::abs(values[i]));
  return out;
}

// To the nearest whole number, ties to even, for magnitudes below 2^22: what lies past the point does not fit beside
// 1.5 * 2^23. (std::nearbyint is a call where the instruction set is the oldest.)
float to_whole(float value) {
  constexpr float kShift = 0x1.8p23F;
  return (value + kShift) - kShift;
}

}  // namespace

Quantised quantise(const float* values, const PackedLayout& layout, int shift, std::int8_t* codes) {
  const std::size_t width = layout.width, fine = layout.segment_start(kCoarseSegments);
  const auto coarser = static_cast<float>(1 << shift);
  Quantised out;
  out.scale = std::max(largest(values, fine) / coarser, largest(values + fine, width - fine)) / 127;
  constexpr double kRoundUp = 1 + 1e-9;  // float64 sums of squares are this good
  double error = 0, norm = 0, squares[kSegments] = {};
  for (std::size_t s = 0; s < kSegments; ++s) {
    const float step = s < kCoarseSegments ? out.scale * coarser : out.scale;
    const float inverse = step > 0 ? 1 / step : 0.0F;
    for (std::size_t i = layout.segment_start(s); i < layout.segment_start(s + 1); ++i) {
      const float code = std::clamp(to_whole(values[i] * inverse), -127.0F, 127.0F);
      codes[i] = static_cast<std::int8_t>(code);
      const double value = static_cast<double>(values[i]),
                   coded = static_cast<double>(code) * static_cast<double>(step);
      error += (value - coded) * (value - coded);
      norm += coded * coded;
      squares[s] += value * value;
    }
    out.norm[s] = std::sqrt(norm) * kRoundUp;
  }
  std::fill(codes + width, codes + layout.steps() * 4, std::int8_t{0});
  double beyond = 0;
  for (std::size_t s = kSegments; s-- > 0;) {
    out.beyond[s] = std::sqrt(beyond) * kRoundUp;
    beyond += squares[s];
  }
  out.error = std::sqrt(error) * kRoundUp;
  return out;
}

}  // namespace headscan
