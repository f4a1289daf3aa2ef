#include "cpu/search/move.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/bounds.hpp"
#include "common/exact.hpp"

namespace headscan {
namespace {

// Up to this many atoms of a block are bounded one by one. 4 to 32 are within 2 % of each other at 512 x 200,000 x
// 768, k = 5, on a 2-core EPYC of the Zen 4 kind (AVX-512 VNNI): builds of each, timed in turn as benchmarks/bars.py
// comp.
constexpr std::uint64_t kFewAtoms = 16;

// Whether at most kFewAtoms bits are set. (The oldest instruction set has no population count.)
bool few(std::uint64_t atoms) {
  atoms -= (atoms >> 1U) & 0x5555555555555555U;
  atoms = (atoms & 0x3333333333333333U) + ((atoms >> 2U) & 0x3333333333333333U);
  return (((atoms + (atoms >> 4U)) & 0x0f0f0f0f0f0f0f0fU) * 0x0101010101010101U) >> 56U <= kFewAtoms;
}

}  // namespace

Move::Move(const PackedAtoms& packed, const Anchor& anchor, std::size_t panel_size)
    : packed_(packed), anchor_(anchor), kernels_(anchor.kernels()), moved_(packed, panel_size), floors_(panel_size) {}

Work Move::offer_candidates(const Panel& panel, const RotatedQueries& rotated, Pool& pool, Rescorer& rescorer) {
  while (workers_.size() < pool.workers()) workers_.emplace_back(packed_, anchor_);
  for (Worker& worker : workers_) worker.delta.assign(rotated.ld(), 0.0F);
  std::fill(floors_.begin(), floors_.end(), std::uint8_t{255});
  pool.run(panel.queries.rows, [&](std::size_t query, std::size_t worker) {
    set_query(panel, rotated.row(query), query, rescorer.best_known(panel, query, worker), workers_[worker]);
  });
  const std::size_t blocks = packed_.blocks(), run = blocks_a_task(blocks, pool);
  pool.run((blocks + run - 1) / run, [&](std::size_t task, std::size_t worker) {
    search_blocks(panel, task * run, std::min((task + 1) * run, blocks), worker, rescorer);
  });
  Work work;
  for (Worker& worker : workers_) {
    work += std::exchange(worker.work, {});
    work += worker.pairs.take_work();
  }
  return work;
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
  moved_.set(query, {worker.delta.data(), alpha * anchor_.step(query), best,
                     (rotation_error(width) + 0x1p-22) * reach, kFloatSlack * reach});
}

// Notes the queries for which some atom of a block can still win, by its largest kept score, and starts bringing what
// they will need into cache.
void Move::look_ahead(std::size_t block, std::size_t count, Worker& worker) const {
  worker.next.clear();
  for (std::size_t first = 0; first < count; first += kChunk) {
    for_each_bit(kernels_.at_least(anchor_.maxima(block) + first, &floors_[first]), [&](std::size_t bit) {
      if (first + bit >= count) return;
      worker.next.push_back(static_cast<std::uint32_t>(first + bit));
      __builtin_prefetch(anchor_.kept(block, first + bit), 0, 2);
    });
  }
  if (worker.next.empty()) return;
  for (std::size_t byte = 0; byte < packed_.block_bytes(); byte += kLineBytes) {
    __builtin_prefetch(block_codes(packed_, block) + byte, 0, 2);
  }
}

// Scores all 64 atoms of a block over one segment for the queries that pass; those that few atoms are left for go on
// as pairs.
void Move::search_segment(std::size_t block, std::size_t segment, Worker& worker) {
  const BlockBounds bounds = block_bounds(packed_, block, segment);
  std::vector<std::uint32_t>& passing = worker.passing;
  const std::size_t steps = packed_.segment_steps(segment), start = packed_.segment_start(segment);
  const std::uint8_t* atoms = block_codes(packed_, block) + start * kBlockAtoms;
  alignas(64) std::int32_t sums[kGroupQueries * kBlockAtoms];
  std::size_t kept_count = 0;
  for (std::size_t first = 0; first < passing.size(); first += kGroupQueries) {
    const std::int8_t* queries[kGroupQueries];
    const std::size_t group = std::min(kGroupQueries, passing.size() - first);
    for (std::size_t q = 0; q < kGroupQueries; ++q) {
      queries[q] = moved_.segment_codes(segment, passing[first + std::min(q, group - 1)]);
    }
    kernels_.dot_tile(atoms, queries, 0, steps, 0, sums);
    worker.work.multiply_adds += kGroupQueries * kBlockAtoms * steps * 4;
    worker.work.bounds += group * kBlockAtoms;
    for (std::size_t q = 0; q < group; ++q) {
      const std::uint32_t query = passing[first + q];
      const std::int32_t* sums_before = segment == 0 ? nullptr : &worker.running[(first + q) * kBlockAtoms];
      const std::uint64_t mask =
          kernels_.advance(sums_before, sums + q * kBlockAtoms, anchor_.kept(block, query), bounds,
                           moved_.segment_bounds(segment, query), &worker.running[kept_count * kBlockAtoms]);
      if (mask == 0) continue;
      if (few(mask) || segment + 1 == kSegments) {
        worker.pairs.add({query, mask});
      } else {
        passing[kept_count++] = query;
      }
    }
  }
  passing.resize(kept_count);
}

void Move::search_blocks(const Panel& panel, std::size_t first, std::size_t end, std::size_t worker_index,
                         Rescorer& rescorer) {
  Worker& worker = workers_[worker_index];
  const std::size_t count = panel.queries.rows;
  look_ahead(first, count, worker);
  for (std::size_t block = first; block < end; ++block) {
    worker.passing.swap(worker.next);
    worker.running.resize(worker.passing.size() * kBlockAtoms);
    worker.pairs.start(block);
    if (block + 1 < end) look_ahead(block + 1, count, worker);
    for (std::size_t segment = 0; segment < kSegments; ++segment) search_segment(block, segment, worker);
    worker.pairs.narrow(moved_);
    for (const auto [query, atoms] : worker.pairs.left()) rescorer.offer(panel, query, block, atoms, worker_index);
  }
}

}  // namespace headscan
