#include "cpu/search/moved_queries.hpp"

#include <algorithm>

#include "common/bounds.hpp"

namespace headscan {

MovedQueries::MovedQueries(const PackedLayout& layout, std::size_t panel_size) : layout_(layout) {
  for (std::size_t part = 0; part < kParts; ++part) {
    parts_.emplace_back(layout, part);
    codes_[part].resize(panel_size * parts_[part].row_bytes);
    part_bounds_[part].resize(panel_size);
  }
  for (auto& bounds : segment_bounds_) bounds.resize(panel_size);
}

void MovedQueries::set(std::size_t query, const Move& move) {
  std::vector<std::int8_t> codes(layout_.steps() * 4);
  const auto [quantised, offset] = quantise_query(move.delta, layout_, codes.data());
  for (std::size_t part = 0; part < kParts; ++part) {
    std::copy(codes.begin() + static_cast<std::ptrdiff_t>(parts_[part].start),
              codes.begin() + static_cast<std::ptrdiff_t>(parts_[part].end),
              codes_[part].data() + query * parts_[part].row_bytes);
  }
  QueryBounds bounds;
  bounds.scale = quantised.scale;
  bounds.kept = rounded_up(move.kept_step);
  bounds.floor = rounded_down(move.floor);
  bounds.slack = rounded_up(layout_.largest_norm * (quantised.error + move.miss + move.rounding));
  std::int32_t coarse = 0;
  for (std::size_t s = 0; s < kSegments; ++s) {
    bounds.shift = s < kCoarseSegments ? 2 * layout_.shift : 0;
    bounds.norm = rounded_up(quantised.norm[s]);
    bounds.beyond = s + 1 < kSegments ? rounded_up(quantised.beyond[s] + move.miss) : 0.0F;
    bounds.offset = offset[s];
    segment_bounds_[s][query] = bounds;
    if (s < kCoarseSegments) bounds.offset = coarse += offset[s];
    if (s + 1 >= kCoarseSegments) part_bounds_[s + 1 - kCoarseSegments][query] = bounds;
  }
}

}  // namespace headscan
