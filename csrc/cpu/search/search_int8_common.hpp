// What the files of the certified search share.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "common/exact.hpp"
#include "cpu/kernels/int8.hpp"
#include "cpu/search/quantise.hpp"

namespace headscan {

inline constexpr std::size_t kChunk = 64;    // queries whose floors are compared at once
inline constexpr std::size_t kPool = 32;     // atoms kept a query to know a good score at once
inline constexpr double kFloatSlack = 4e-6;  // float32 rounding in the bounds, relative to |g| |q|

inline float rounded_up(double value) { return static_cast<float>(value * (1 + 1e-6)); }
inline float rounded_down(double value) { return static_cast<float>(value - std::abs(value) * 1e-6); }

static inline double norm_of(const double* values, std::size_t width) {
  return std::sqrt(dot(values, values, width));
}

template <class Visit>
void for_each_bit(std::uint64_t mask, const Visit& visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<std::size_t>(__builtin_ctzll(mask)));
}

// Scale, norms and offsets that a query's codes alone decide; `unit` is what bounds are measured in.
inline void set_code_bounds(QueryBounds& bounds, const Quantised& quantised, const std::int8_t* codes,
                            const PackedLayout& layout, double unit) {
  bounds.scale = static_cast<float>(static_cast<double>(quantised.scale) / unit);
  bounds.shift = 2 * layout.shift;
  for (std::size_t s = 0; s < kSegments; ++s) {
    const std::int8_t* first = codes + layout.segment_start(s);
    bounds.norm[s] = rounded_up(quantised.norm[s] / unit);
    bounds.offset[s] = -128 * std::accumulate(first, first + layout.segment_steps(s) * 4, 0);
  }
}

}  // namespace headscan
