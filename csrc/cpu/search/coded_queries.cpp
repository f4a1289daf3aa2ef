#include "cpu/search/coded_queries.hpp"

#include <algorithm>
#include <numeric>

#include "common/bounds.hpp"

namespace headscan {

RotatedQueries::RotatedQueries(const PackedAtoms& packed, std::size_t panel_size, const DenseKernels& kernels)
    : kernels_(kernels),
      width_(packed.width),
      ld_((packed.width + kPanel - 1) / kPanel * kPanel),
      rotation_(packed.width * ld_, 0.0F),
      queries_(panel_size * ld_),
      rotated_(panel_size * ld_) {
  for (std::size_t i = 0; i < width_; ++i) {
    std::copy_n(packed.rotation + i * width_, width_, &rotation_[i * ld_]);
  }
}

void RotatedQueries::rotate(const Panel& panel, Pool& pool) {
  constexpr std::size_t kRows = 32;  // queries a task
  const std::size_t count = panel.queries.rows;
  pool.run((count + kRows - 1) / kRows, [&](std::size_t part, std::size_t) {
    const std::size_t first = part * kRows, rows = std::min(kRows, count - first);
    for (std::size_t q = first; q < first + rows; ++q) {
      for (std::size_t i = 0; i < width_; ++i) queries_[q * ld_ + i] = static_cast<float>(panel.queries.row(q)[i]);
    }
    kernels_.multiply_f32(&queries_[first * ld_], ld_, rotation_.data(), rows, width_, ld_, &rotated_[first * ld_]);
  });
}

Coded quantise_query(const float* rotated, const PackedLayout& layout, std::int8_t* codes) {
  Coded out;
  out.quantised = quantise(rotated, layout, layout.shift, codes);
  for (std::size_t s = 0; s < kSegments; ++s) {
    const std::int8_t* first = codes + layout.segment_start(s);
    out.offset[s] = -128 * std::accumulate(first, first + layout.segment_steps(s) * 4, 0);
  }
  return out;
}

double CodedQueries::set(std::size_t query, const float* rotated, double unit) {
  const auto [quantised, offset] = quantise_query(rotated, layout_, &codes_[query * code_bytes_]);
  QueryBounds& bounds = bounds_[query];
  bounds.scale = static_cast<float>(static_cast<double>(quantised.scale) / unit);
  bounds.norm = rounded_up(quantised.norm[kSegments - 1] / unit);
  bounds.offset = 0;
  for (std::size_t s = 0; s < kSegments; ++s) {
    bounds.offset += offset[s] * (s < kCoarseSegments ? 1 << (2 * layout_.shift) : 1);
  }
  return quantised.error;
}

}  // namespace headscan
