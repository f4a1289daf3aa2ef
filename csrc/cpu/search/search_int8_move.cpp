// Rounds between anchors: bounds narrow the atoms down.
#include <algorithm>
#include <cmath>

#include "cpu/search/search_int8.hpp"
#include "cpu/search/search_int8_common.hpp"

namespace headscan {

// The lowest kept byte with which an atom can still score `best`. With <g, u> = |u| |g| cos(theta) and phi the angle
// between q and u, <g, q> <= |g| |q| cos(theta - phi), so theta can be at most phi + acos(best / (|g| |q|)).
std::uint8_t SearchInt8::angle_floor(const Panel& panel, std::size_t query, double best) const {
  const double* q = panel.queries.row(query);
  const double length = norm_of(q, packed_.width), norm = anchor_[query].norm, longest = packed_.largest_norm;
  if (!(length * norm * longest > 0)) return 0;
  const double cosine = dot(q, &anchors_[query * packed_.width], packed_.width) / (length * norm);
  const double phi = std::acos(std::clamp(cosine, -1.0, 1.0));
  const double theta = phi + std::acos(std::clamp(best / (longest * length), -1.0, 1.0));
  constexpr double kPi = 3.14159265358979323846;
  if (theta >= kPi) return 0;
  const double lowest = (std::cos(theta) - 1e-6) * longest * norm / static_cast<double>(anchor_[query].step);
  return static_cast<std::uint8_t>(std::clamp(std::floor(lowest), 0.0, 255.0));
}

void SearchInt8::set_move(const Panel& panel, std::size_t query, Worker& worker) {
  const std::size_t width = packed_.width;
  const double best = best_of(panel, query, pools_[query], worker);
  best_known_[query] = rounded_down(best);
  floors_[query] = angle_floor(panel, query, best);

  // q = alpha u + delta, with alpha fitted where delta is bounded by its norm rather than scored.
  const float* rotated = &rotated_[query * ld_];
  const float* anchor_rotated = &anchors_rotated_[query * ld_];
  const Anchor& anchor = anchor_[query];
  double along = 0;
  for (std::size_t i = packed_.segment_start(kCoarseSegments); i < width; ++i) {
    along += static_cast<double>(rotated[i]) * static_cast<double>(anchor_rotated[i]);
  }
  const double alpha = anchor.fine_square > 0 ? std::max(0.0, along / anchor.fine_square) : 0.0;
  float* delta = &queries_[query * ld_];
  for (std::size_t i = 0; i < width; ++i) {
    delta[i] = static_cast<float>(static_cast<double>(rotated[i]) - alpha * static_cast<double>(anchor_rotated[i]));
  }
  const double reach = norm_of(panel.queries.row(query), width) + alpha * anchor.norm;
  const double miss = (rotation_error_ + 0x1p-22) * reach;

  std::int8_t* codes = &codes_[query * code_bytes_];
  const Quantised quantised = quantise(delta, packed_, packed_.shift, codes);
  QueryBounds& bounds = bounds_[query];
  set_code_bounds(bounds, quantised, codes, packed_, 1);
  bounds.kept = rounded_up(alpha * static_cast<double>(anchor.step));
  bounds.slack = rounded_up(packed_.largest_norm * (quantised.error + miss + kFloatSlack * reach));
  for (std::size_t s = 0; s < kSegments; ++s) bounds.beyond[s] = rounded_up(quantised.beyond[s] + miss);
}

// The queries for which some atom of the block can still win, by its largest kept score alone.
std::vector<std::uint32_t>& SearchInt8::start_block(std::size_t block, std::size_t count, Worker& worker) const {
  worker.passing.clear();
  for (std::size_t first = 0; first < count; first += kChunk) {
    for_each_bit(int8_.at_least(&kept_maxima_[block * panel_size_ + first], &floors_[first]), [&](std::size_t bit) {
      if (first + bit < count) worker.passing.push_back(static_cast<std::uint32_t>(first + bit));
    });
  }
  worker.running.resize(worker.passing.size() * kBlockAtoms);
  return worker.passing;
}

void SearchInt8::move_pass(const Panel& panel, std::size_t block, Worker& worker) {
  const BlockBounds bounds = block_bounds(block);
  std::vector<std::uint32_t>& passing = start_block(block, panel.queries.rows, worker);
  alignas(64) std::int32_t sums[kGroupQueries * kBlockAtoms];
  for (std::size_t segment = 0; segment < kSegments; ++segment) {
    const std::size_t steps = packed_.segment_steps(segment), start = packed_.segment_start(segment);
    const std::uint8_t* atoms = packed_.codes + block * packed_.block_bytes() + start * kBlockAtoms;
    std::size_t kept_count = 0;
    for (std::size_t first = 0; first < passing.size(); first += kGroupQueries) {
      const std::int8_t* queries[kGroupQueries];
      const std::size_t group = std::min(kGroupQueries, passing.size() - first);
      for (std::size_t q = 0; q < kGroupQueries; ++q) {
        queries[q] = codes(passing[first + std::min(q, group - 1)]) + start;
        __builtin_prefetch(kept(block, passing[std::min(first + kGroupQueries + q, passing.size() - 1)]));
      }
      int8_.dot_tile(atoms, queries, 0, steps, 0, sums);
      worker.multiply_adds += kGroupQueries * kBlockAtoms * steps * 4;
      for (std::size_t q = 0; q < group; ++q) {
        const std::uint32_t query = passing[first + q];
        const std::uint64_t mask = int8_.advance(&worker.running[(first + q) * kBlockAtoms], sums + q * kBlockAtoms,
                                                 segment, kept(block, query), bounds, bounds_[query],
                                                 best_known_[query], &worker.running[kept_count * kBlockAtoms]);
        if (mask == 0) continue;
        if (segment + 1 == kSegments) {
          take_candidates(panel, query, block, mask, worker);
        } else {
          passing[kept_count++] = query;
        }
      }
    }
    passing.resize(kept_count);
  }
}

}  // namespace headscan
