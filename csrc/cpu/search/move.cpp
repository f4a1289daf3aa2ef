#include "cpu/search/move.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/bounds.hpp"
#include "common/exact.hpp"

namespace headscan {

Move::Move(const PackedAtoms& packed, const Anchor& anchor, std::size_t panel_size)
    : packed_(packed),
      anchor_(anchor),
      kernels_(int8_kernels()),
      panel_size_(panel_size),
      coded_(packed, panel_size),
      floors_(panel_size),
      best_known_(panel_size) {}

std::uint64_t Move::offer_candidates(const Panel& panel, const RotatedQueries& rotated, Pool& pool,
                                     Rescorer& rescorer) {
  workers_.resize(pool.workers());
  for (Worker& worker : workers_) worker.delta.assign(rotated.ld(), 0.0F);
  std::fill(floors_.begin(), floors_.end(), std::uint8_t{255});
  pool.run(panel.queries.rows, [&](std::size_t query, std::size_t worker) {
    set_query(panel, rotated.row(query), query, rescorer.best_known(panel, query, worker), workers_[worker]);
  });
  pool.run(packed_.blocks(),
           [&](std::size_t block, std::size_t worker) { search_block(panel, block, worker, rescorer); });
  std::uint64_t multiply_adds = 0;
  for (Worker& worker : workers_) multiply_adds += std::exchange(worker.multiply_adds, 0);
  return multiply_adds;
}

// The lowest kept byte with which an atom can still score `best`. With <g, u> = |u| |g| cos(theta) and phi the angle
// between q and u, <g, q> <= |g| |q| cos(theta - phi), so theta can be at most phi + acos(best / (|g| |q|)).
std::uint8_t Move::angle_floor(const Panel& panel, std::size_t query, double best) const {
  const double length = panel.norm(query), norm = anchor_.norm(query), longest = packed_.largest_norm;
  if (!(length * norm * longest > 0)) return 0;
  const double cosine = dot(panel.queries.row(query), anchor_.query(query), packed_.width) / (length * norm);
  const double phi = std::acos(std::clamp(cosine, -1.0, 1.0));
  const double theta = phi + std::acos(std::clamp(best / (longest * length), -1.0, 1.0));
  constexpr double kPi = 3.14159265358979323846;
  if (theta >= kPi) return 0;
  const double lowest = (std::cos(theta) - 1e-6) * longest * norm / anchor_.step(query);
  return static_cast<std::uint8_t>(std::clamp(std::floor(lowest), 0.0, 255.0));
}

void Move::set_query(const Panel& panel, const float* rotated, std::size_t query, double best, Worker& worker) {
  const std::size_t width = packed_.width;
  best_known_[query] = rounded_down(best);
  floors_[query] = angle_floor(panel, query, best);

  // q = alpha u + delta, with alpha fitted where delta is bounded by its norm rather than scored.
  const float* anchor = anchor_.rotated(query);
  double along = 0;
  for (std::size_t i = packed_.segment_start(kCoarseSegments); i < width; ++i) {
    along += static_cast<double>(rotated[i]) * static_cast<double>(anchor[i]);
  }
  const double fine_square = anchor_.fine_square(query);
  const double alpha = fine_square > 0 ? std::max(0.0, along / fine_square) : 0.0;
  for (std::size_t i = 0; i < width; ++i) {
    worker.delta[i] = static_cast<float>(static_cast<double>(rotated[i]) - alpha * static_cast<double>(anchor[i]));
  }
  const double reach = panel.norm(query) + alpha * anchor_.norm(query);
  const double miss = (rotation_error(width) + 0x1p-22) * reach;

  const Quantised quantised = coded_.set(query, worker.delta.data(), 1);
  QueryBounds& bounds = coded_.bounds(query);
  bounds.kept = rounded_up(alpha * anchor_.step(query));
  bounds.slack = rounded_up(packed_.largest_norm * (quantised.error + miss + kFloatSlack * reach));
  for (std::size_t s = 0; s < kSegments; ++s) bounds.beyond[s] = rounded_up(quantised.beyond[s] + miss);
}

// The queries for which some atom of the block can still win, by its largest kept score alone.
void Move::start_block(std::size_t block, std::size_t count, Worker& worker) const {
  worker.passing.clear();
  for (std::size_t first = 0; first < count; first += kChunk) {
    for_each_bit(kernels_.at_least(anchor_.maxima(block) + first, &floors_[first]), [&](std::size_t bit) {
      if (first + bit < count) worker.passing.push_back(static_cast<std::uint32_t>(first + bit));
    });
  }
  worker.running.resize(worker.passing.size() * kBlockAtoms);
}

void Move::search_block(const Panel& panel, std::size_t block, std::size_t worker_index, Rescorer& rescorer) {
  Worker& worker = workers_[worker_index];
  const BlockBounds bounds = block_bounds(packed_, block);
  start_block(block, panel.queries.rows, worker);
  std::vector<std::uint32_t>& passing = worker.passing;
  alignas(64) std::int32_t sums[kGroupQueries * kBlockAtoms];
  for (std::size_t segment = 0; segment < kSegments; ++segment) {
    const std::size_t steps = packed_.segment_steps(segment), start = packed_.segment_start(segment);
    const std::uint8_t* atoms = block_codes(packed_, block) + start * kBlockAtoms;
    std::size_t kept_count = 0;
    for (std::size_t first = 0; first < passing.size(); first += kGroupQueries) {
      const std::int8_t* queries[kGroupQueries];
      const std::size_t group = std::min(kGroupQueries, passing.size() - first);
      for (std::size_t q = 0; q < kGroupQueries; ++q) {
        queries[q] = coded_.codes(passing[first + std::min(q, group - 1)]) + start;
        __builtin_prefetch(anchor_.kept(block, passing[std::min(first + kGroupQueries + q, passing.size() - 1)]));
      }
      kernels_.dot_tile(atoms, queries, 0, steps, 0, sums);
      worker.multiply_adds += kGroupQueries * kBlockAtoms * steps * 4;
      for (std::size_t q = 0; q < group; ++q) {
        const std::uint32_t query = passing[first + q];
        const std::uint64_t mask = kernels_.advance(
            &worker.running[(first + q) * kBlockAtoms], sums + q * kBlockAtoms, segment, anchor_.kept(block, query),
            bounds, coded_.bounds(query), best_known_[query], &worker.running[kept_count * kBlockAtoms]);
        if (mask == 0) continue;
        if (segment + 1 == kSegments) {
          rescorer.offer(panel, query, block, mask, worker_index);
        } else {
          passing[kept_count++] = query;
        }
      }
    }
    passing.resize(kept_count);
  }
}

}  // namespace headscan
