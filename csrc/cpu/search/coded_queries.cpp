#include "cpu/search/coded_queries.hpp"

#include <algorithm>
#include <numeric>

#include "common/bounds.hpp"

namespace headscan {

RotatedQueries::RotatedQueries(const PackedAtoms& packed, std::size_t panel_size)
    : kernels_(dense_kernels()),
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

Quantised CodedQueries::set(std::size_t query, const float* rotated, double unit) {
  std::int8_t* codes = &codes_[query * code_bytes_];
  const Quantised quantised = quantise(rotated, layout_, layout_.shift, codes);
  QueryBounds& bounds = bounds_[query];
  bounds.scale = static_cast<float>(static_cast<double>(quantised.scale) / unit);
  bounds.shift = 2 * layout_.shift;
  for (std::size_t s = 0; s < kSegments; ++s) {
    const std::int8_t* first = codes + layout_.segment_start(s);
    bounds.norm[s] = rounded_up(quantised.norm[s] / unit);
    bounds.offset[s] = -128 * std::accumulate(first, first + layout_.segment_steps(s) * 4, 0);
  }
  return quantised;
}

}  // namespace headscan
