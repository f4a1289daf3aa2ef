// A running arg-max: the highest score, ties to the lowest index.
#pragma once

#include <cstdint>

#include "common/team.hpp"

namespace headscan {

struct Best {
  double score = 0;
  std::int64_t index = -1;

  HEADSCAN_DEVICE void offer(double candidate, std::int64_t atom) {
    if (index < 0 || candidate > score || (candidate == score && atom < index)) {
      score = candidate;
      index = atom;
    }
  }
};

}  // namespace headscan
