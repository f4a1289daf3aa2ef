// Queries that moved away from their anchor, as the kernels want them: codes of the move part by part, so that what a
// part's pass touches stays in the first-level cache, and what bounds the scores after each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/search/coded_queries.hpp"

namespace headscan {

// Axes summed before bounds are compared: all coarse segments together, then segment by segment.
inline constexpr std::size_t kParts = 1 + kSegments - kCoarseSegments;

struct Part {
  Part(const PackedLayout& layout, std::size_t part)
      : last_segment(kCoarseSegments - 1 + part),
        start(part == 0 ? 0 : layout.segment_start(last_segment)),
        end(layout.segment_start(last_segment + 1)),
        row_bytes(padded_row(end - start)) {}

  std::size_t last_segment, start, end;  // axes from start on
  std::size_t row_bytes;                 // of codes, padded
};

class MovedQueries {
 public:
  MovedQueries(const PackedLayout& layout, std::size_t panel_size);

  // The query is `alpha` times its anchor + delta (width, in the dictionary's axes), a kept byte of the anchor counts
  // kept_step, and some atom is known to reach `floor`. `miss` bounds the distance of delta from the exact one,
  // `rounding` that of float32 scores from exact ones, relative to an atom's norm.
  struct Move {
    const float* delta;
    double kept_step, floor, miss, rounding;
  };
  void set(std::size_t query, const Move& move);

  const std::int8_t* part_codes(std::size_t part, std::size_t query) const {
    return codes_[part].data() + query * parts_[part].row_bytes;
  }
  const QueryBounds& part_bounds(std::size_t part, std::size_t query) const { return part_bounds_[part][query]; }

  // The same for one segment, of those before it `part_bounds` counts none.
  const std::int8_t* segment_codes(std::size_t segment, std::size_t query) const {
    const std::size_t part = segment < kCoarseSegments ? 0 : segment + 1 - kCoarseSegments;
    return part_codes(part, query) + layout_.segment_start(segment) - parts_[part].start;
  }
  const QueryBounds& segment_bounds(std::size_t segment, std::size_t query) const {
    return segment_bounds_[segment][query];
  }

 private:
  PackedLayout layout_;
  std::vector<Part> parts_;
  std::vector<std::int8_t> codes_[kParts];  // (panel, row_bytes): zero in the padding
  std::vector<QueryBounds> part_bounds_[kParts], segment_bounds_[kSegments];  // (panel)
};

}  // namespace headscan
