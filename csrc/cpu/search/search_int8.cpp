#include "cpu/search/search_int8.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "cpu/search/search_int8_common.hpp"

namespace headscan {

std::size_t SearchInt8::panel_size(const PackedLayout& layout, std::size_t bytes) {
  const std::size_t fitting = bytes / (std::max<std::size_t>(layout.blocks(), 1) * (kBlockAtoms + 1));
  return std::clamp<std::size_t>(fitting / kChunk * kChunk, kChunk, 512);
}

SearchInt8::SearchInt8(const PackedAtoms& packed, const RowSource& rows, std::size_t panel_size)
    : packed_(packed),
      rows_(rows),
      dense_(dense_kernels()),
      int8_(int8_kernels()),
      panel_size_((panel_size + kChunk - 1) / kChunk * kChunk),
      ld_((packed.width + 15) / 16 * 16),
      code_bytes_(packed.steps() * 4),
      candidate_limit_(std::clamp<std::size_t>(packed.rows / 256, 1024, 4096)),
      rotation_error_(rotation_error(packed.width)),
      rotation_(packed.width * ld_, 0.0F),
      queries_(panel_size_ * ld_),
      rotated_(panel_size_ * ld_),
      anchors_rotated_(panel_size_ * ld_),
      anchors_(panel_size_ * packed.width),
      anchor_(panel_size_),
      bounds_(panel_size_),
      codes_(panel_size_ * code_bytes_),
      kept_(packed.blocks() * panel_size_ * kBlockAtoms),
      kept_maxima_(packed.blocks() * panel_size_),
      floors_(panel_size_),
      best_known_(panel_size_),
      pools_(panel_size_) {
  for (std::size_t i = 0; i < packed.width; ++i) {
    std::copy_n(packed.rotation + i * packed.width, packed.width, &rotation_[i * ld_]);
  }
}

void SearchInt8::argmax(const Panel& panel, Pool& pool, std::int64_t* best) {
  const std::size_t count = panel.queries.rows, blocks = packed_.blocks();
  workers_.resize(pool.workers());
  for (Worker& worker : workers_) {
    worker.counts.assign(panel_size_, 0);
    worker.row.resize(packed_.width);
  }
  if (panel.round == 0) {
    for (auto& known : pools_) known.clear();
  }
  rotate(panel, pool);
  const bool anchoring = panel.round == 0 || anchor_again(panel);
  const std::uint64_t before = counters_.multiply_adds;
  if (anchoring) {
    pool.run(count, [&](std::size_t query, std::size_t) { set_anchor(panel, query); });
    anchor_pass(count, pool);
    anchor_candidates(panel, pool);
  } else {
    std::fill(floors_.begin(), floors_.end(), std::uint8_t{255});
    pool.run(count, [&](std::size_t query, std::size_t worker) { set_move(panel, query, workers_[worker]); });
    pool.run(blocks, [&](std::size_t block, std::size_t worker) { move_pass(panel, block, workers_[worker]); });
  }
  for (Worker& worker : workers_) counters_.multiply_adds += std::exchange(worker.multiply_adds, 0);
  const double pass = static_cast<double>(count * blocks * kBlockAtoms * code_bytes_);
  if (anchoring) {
    move_costs_.clear();
  } else {
    move_costs_.push_back(static_cast<double>(counters_.multiply_adds - before) / pass);
  }
  rescore(panel, pool, best);
  for (Worker& worker : workers_) counters_.rescored += std::exchange(worker.rescored, 0);
}

// A new anchor costs one pass and makes the rounds after it as cheap as those after the last one were.
bool SearchInt8::anchor_again(const Panel& panel) const {
  if (move_costs_.empty()) return false;
  const std::size_t left = panel.picked_stride - panel.round;
  const double stay = move_costs_.back() * static_cast<double>(left);
  double anew = 1;
  for (std::size_t i = 0; i + 1 < left; ++i) anew += move_costs_[std::min(i, move_costs_.size() - 1)];
  return anew < stay;
}

BlockBounds SearchInt8::block_bounds(std::size_t block) const {
  const std::size_t first = block * kBlockAtoms;
  return {packed_.scale + first, packed_.error + first, packed_.beyond + first * (kSegments - 1)};
}

double SearchInt8::exact(const Panel& panel, std::size_t query, std::int64_t atom, Worker& worker) const {
  ++worker.rescored;
  return dense_.exact_dot(rows_.fetch(atom, worker.row.data()), panel.queries.row(query), packed_.width);
}

// The highest score among some atoms; minus infinity where none of them is left to pick.
double SearchInt8::best_of(const Panel& panel, std::size_t query, const std::vector<std::int64_t>& atoms,
                           Worker& worker) const {
  double best = -std::numeric_limits<double>::infinity();
  for (const auto atom : atoms) {
    if (!panel.has_picked(query, atom)) best = std::max(best, exact(panel, query, atom, worker));
  }
  return best;
}

void SearchInt8::rotate(const Panel& panel, Pool& pool) {
  constexpr std::size_t kRows = 32;
  const std::size_t count = panel.queries.rows, width = packed_.width;
  pool.run((count + kRows - 1) / kRows, [&](std::size_t part, std::size_t) {
    const std::size_t first = part * kRows, rows = std::min(kRows, count - first);
    for (std::size_t q = first; q < first + rows; ++q) {
      for (std::size_t i = 0; i < width; ++i) queries_[q * ld_ + i] = static_cast<float>(panel.queries.row(q)[i]);
    }
    dense_.multiply_f32(&queries_[first * ld_], ld_, rotation_.data(), rows, width, ld_, &rotated_[first * ld_]);
  });
}

}  // namespace headscan
