// Symmetric int8 codes of rotated vectors, the coarse segments in steps 2^shift times larger.
#pragma once

#include <cstddef>
#include <cstdint>

#include "headscan/pack.hpp"

namespace headscan {

struct Quantised {
  float scale = 0;                // the step of the fine segments; that of the coarse ones is 2^shift times it
  double error = 0;               // |values - codes|, rounded up
  double norm[kSegments] = {};    // |codes| up to the end of each segment, in units of the values, rounded up
  double beyond[kSegments] = {};  // |values| after the end of each segment, rounded up
};

// codes (layout.steps() * 4): zero past the width.
Quantised quantise(const float* values, const PackedLayout& layout, int shift, std::int8_t* codes);

}  // namespace headscan
