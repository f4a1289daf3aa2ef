#include "cpu/search/search_int8.hpp"

#include <algorithm>

#include "common/bounds.hpp"

namespace headscan {
namespace {

// A bound takes as long as this many multiply-adds of a pass (sampled on the machine of kFewAtoms, move.cpp). Only
// when a new anchor pays depends on it.
constexpr std::uint64_t kBoundCost = 192;

std::size_t whole_chunks(std::size_t queries) { return (queries + kChunk - 1) / kChunk * kChunk; }

}  // namespace

std::size_t SearchInt8::panel_size(const PackedLayout& layout, std::size_t bytes) {
  const std::size_t fitting = bytes / (std::max<std::size_t>(layout.blocks(), 1) * (kBlockAtoms + 1));
  return std::clamp<std::size_t>(fitting / kChunk * kChunk, kChunk, 512);
}

SearchInt8::SearchInt8(const PackedAtoms& packed, const RowSource& rows, std::size_t panel_size,
                       const Kernels& kernels)
    : packed_(packed),
      rotated_(packed, whole_chunks(panel_size), kernels.dense),
      rescorer_(packed.rows, packed.width, rows, whole_chunks(panel_size), kernels.dense),
      anchor_(packed, whole_chunks(panel_size), kernels.int8),
      move_(packed, anchor_, whole_chunks(panel_size)) {}

void SearchInt8::argmax(const Panel& panel, Pool& pool, std::int64_t* best) {
  rescorer_.begin(panel, pool.workers());
  for (std::size_t query = 0; query < panel.queries.rows; ++query) {
    if (packed_.largest_norm * panel.norm(query) < kSmallestProduct) rescorer_.give_up(query);
  }
  rotated_.rotate(panel, pool);
  if (panel.round == 0 || anchor_again(panel)) {
    multiply_adds_ += anchor_.set(panel, rotated_, pool);
    anchor_.offer_candidates(panel, pool, rescorer_);
    move_costs_.clear();
  } else {
    const Work work = move_.offer_candidates(panel, rotated_, pool, rescorer_);
    multiply_adds_ += work.multiply_adds;
    const auto pass = static_cast<double>(panel.queries.rows * packed_.blocks() * packed_.block_bytes());
    move_costs_.push_back(static_cast<double>(work.multiply_adds + kBoundCost * work.bounds) / pass);
  }
  rescorer_.decide(panel, pool, best);
}

SearchCounters SearchInt8::counters() const { return {multiply_adds_, rescorer_.rescored(), rescorer_.fallbacks()}; }

// A new anchor costs one pass and makes the rounds after it as cheap as those after the last one were.
bool SearchInt8::anchor_again(const Panel& panel) const {
  if (move_costs_.empty()) return false;
  const std::size_t left = panel.picked_stride - panel.round;
  const double stay = move_costs_.back() * static_cast<double>(left);
  double anew = 1;
  for (std::size_t i = 0; i + 1 < left; ++i) anew += move_costs_[std::min(i, move_costs_.size() - 1)];
  return anew < stay;
}

}  // namespace headscan
