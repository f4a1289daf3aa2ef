// Anchor rounds: every atom is scored, and an upper bound of its score kept in a byte.
#include <algorithm>
#include <array>
#include <cmath>

#include "cpu/search/search_int8.hpp"
#include "cpu/search/search_int8_common.hpp"

namespace headscan {
namespace {

constexpr std::size_t kLineBytes = 64;
std::size_t groups(std::size_t count) { return (count + kGroupQueries - 1) / kGroupQueries; }

}  // namespace

void SearchInt8::set_anchor(const Panel& panel, std::size_t query) {
  const std::size_t width = packed_.width;
  const float* rotated = &rotated_[query * ld_];
  std::copy_n(panel.queries.row(query), width, &anchors_[query * width]);
  std::copy_n(rotated, ld_, &anchors_rotated_[query * ld_]);
  Anchor& anchor = anchor_[query];
  anchor.norm = norm_of(panel.queries.row(query), width);
  anchor.fine_square = 0;
  for (std::size_t i = packed_.segment_start(kCoarseSegments); i < width; ++i) {
    anchor.fine_square += std::pow(static_cast<double>(rotated[i]), 2);
  }
  const double longest = packed_.largest_norm * anchor.norm;
  anchor.step = longest > 0 ? rounded_up(longest / 254) : 1.0F;
  const double step = static_cast<double>(anchor.step);

  std::int8_t* codes = &codes_[query * code_bytes_];
  const Quantised quantised = quantise(rotated, packed_, packed_.shift, codes);
  QueryBounds& bounds = bounds_[query];
  set_code_bounds(bounds, quantised, codes, packed_, step);
  const double error = quantised.error + rotation_error_ * anchor.norm;
  bounds.slack = 1 + rounded_up((packed_.largest_norm * error + kFloatSlack * longest) / step);  // 1: truncation
}

void SearchInt8::anchor_pass(std::size_t count, Pool& pool) {
  // Several blocks a task, so that each worker knows which comes next.
  const std::size_t run = std::clamp<std::size_t>(packed_.blocks() / (pool.workers() * 16), 1, 16);
  pool.run((packed_.blocks() + run - 1) / run, [&](std::size_t task, std::size_t worker) {
    const std::size_t end = std::min((task + 1) * run, packed_.blocks());
    for (std::size_t block = task * run; block < end; ++block) score_block(block, block + 1 < end, count);
    workers_[worker].multiply_adds += (end - task * run) * groups(count) * kGroupQueries * packed_.block_bytes();
  });
}

// Bounds of all queries' scores of one block, while the block after it comes in from memory, a slice a group.
void SearchInt8::score_block(std::size_t block, bool more, std::size_t count) {
  const std::uint8_t* atoms = packed_.codes + block * packed_.block_bytes();
  const std::size_t coarse_steps = packed_.segment_start(kCoarseSegments) / 4;
  const std::size_t ahead = more ? packed_.block_bytes() : 0, slice = ahead / groups(count) + kLineBytes;
  const BlockBounds bounds = block_bounds(block);
  alignas(kLineBytes) std::int32_t sums[kGroupQueries * kBlockAtoms];
  std::size_t fetched = 0;
  for (std::size_t first = 0; first < count; first += kGroupQueries) {
    for (const std::size_t to = std::min(fetched + slice, ahead); fetched < to; fetched += kLineBytes) {
      __builtin_prefetch(atoms + packed_.block_bytes() + fetched, 0, 2);
    }
    const std::int8_t* queries[kGroupQueries];
    for (std::size_t q = 0; q < kGroupQueries; ++q) queries[q] = codes(std::min(first + q, count - 1));
    int8_.dot_tile(atoms, queries, coarse_steps, packed_.steps(), 2 * packed_.shift, sums);
    int8_.keep_scores(sums, bounds, &bounds_[first], std::min(kGroupQueries, count - first), kept(block, first),
                      &kept_maxima_[block * panel_size_ + first]);
  }
}

void SearchInt8::anchor_candidates(const Panel& panel, Pool& pool) {
  const std::size_t count = panel.queries.rows, chunks = (count + kChunk - 1) / kChunk;
  std::vector<std::vector<std::int64_t>> seeds(count);
  pool.run(chunks, [&](std::size_t chunk, std::size_t) { find_seeds(panel, chunk, seeds); });
  pool.run(count, [&](std::size_t query, std::size_t worker) {
    const double best = std::max(best_of(panel, query, pools_[query], workers_[worker]),
                                 best_of(panel, query, seeds[query], workers_[worker]));
    const double floor = std::floor(best / static_cast<double>(anchor_[query].step) - 1e-3);
    floors_[query] = std::min(static_cast<std::uint8_t>(std::clamp(floor, 0.0, 255.0)), floors_[query]);
  });
  pool.run(chunks, [&](std::size_t chunk, std::size_t worker) {
    visit(chunk, count, &floors_[chunk * kChunk], [&](std::size_t query, std::size_t block, std::uint64_t mask) {
      take_candidates(panel, query, block, mask, workers_[worker]);
    });
  });
}

// Atoms with the highest bounds, one of which will show a good score; floors_ = the lowest bound among them, or of
// what shares their blocks.
void SearchInt8::find_seeds(const Panel& panel, std::size_t chunk, std::vector<std::vector<std::int64_t>>& seeds) {
  const std::size_t first = chunk * kChunk, count = panel.queries.rows;
  std::vector<std::array<std::uint32_t, 256>> histograms(kChunk);
  for (std::size_t block = 0; block < packed_.blocks(); ++block) {
    const std::uint8_t* maxima = &kept_maxima_[block * panel_size_ + first];
    for (std::size_t q = 0; q < kChunk; ++q) ++histograms[q][maxima[q]];
  }
  std::uint8_t tops[kChunk];
  for (std::size_t q = 0; q < kChunk; ++q) {
    std::size_t level = 255;
    while (level > 1 && histograms[q][level] == 0) --level;
    tops[q] = static_cast<std::uint8_t>(level);
    for (std::size_t blocks = 0; level > 1 && (blocks += histograms[q][level]) < kPool;) --level;
    floors_[first + q] = static_cast<std::uint8_t>(level);
  }
  visit(chunk, count, tops, [&](std::size_t query, std::size_t block, std::uint64_t mask) {
    for_each_bit(mask, [&](std::size_t bit) {
      const auto atom = static_cast<std::int64_t>(block * kBlockAtoms + bit);
      if (seeds[query].size() >= kPool || atom >= static_cast<std::int64_t>(packed_.rows)) return;
      if (!panel.has_picked(query, atom)) seeds[query].push_back(atom);
    });
  });
}

// take(query, block, atoms whose bound reaches the query's floor) for the queries of a chunk, blocks in order.
template <class Take>
void SearchInt8::visit(std::size_t chunk, std::size_t count, const std::uint8_t* floors, const Take& take) {
  const std::size_t first = chunk * kChunk;
  std::uint8_t floor_bytes[kBlockAtoms];
  for (std::size_t block = 0; block < packed_.blocks(); ++block) {
    for_each_bit(int8_.at_least(&kept_maxima_[block * panel_size_ + first], floors), [&](std::size_t q) {
      if (first + q >= count) return;
      std::fill(floor_bytes, floor_bytes + kBlockAtoms, floors[q]);
      take(first + q, block, int8_.at_least(kept(block, first + q), floor_bytes));
    });
  }
}

}  // namespace headscan
