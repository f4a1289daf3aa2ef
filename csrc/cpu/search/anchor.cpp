#include "cpu/search/anchor.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/bounds.hpp"

namespace headscan {
namespace {

std::size_t groups(std::size_t count) { return (count + kGroupQueries - 1) / kGroupQueries; }

}  // namespace

Anchor::Anchor(const PackedAtoms& packed, std::size_t panel_size, const Int8Kernels& kernels)
    : packed_(packed),
      kernels_(kernels),
      panel_size_(panel_size),
      ld_((packed.width + kPanel - 1) / kPanel * kPanel),
      coded_(packed, panel_size),
      queries_(panel_size * packed.width),
      rotated_(panel_size * ld_),
      scales_(panel_size),
      kept_(packed.blocks() * panel_size * kBlockAtoms),
      maxima_(packed.blocks() * panel_size) {}

std::uint64_t Anchor::set(const Panel& panel, const RotatedQueries& rotated, Pool& pool) {
  const std::size_t count = panel.queries.rows, blocks = packed_.blocks();
  pool.run(count, [&](std::size_t query, std::size_t) { set_query(panel, rotated, query); });
  const std::size_t run = blocks_a_task(blocks, pool);
  pool.run((blocks + run - 1) / run, [&](std::size_t task, std::size_t) {
    const std::size_t end = std::min((task + 1) * run, blocks);
    for (std::size_t block = task * run; block < end; ++block) score_block(block, block + 1 < end, count);
  });
  return blocks * groups(count) * kGroupQueries * packed_.block_bytes();
}

void Anchor::set_query(const Panel& panel, const RotatedQueries& rotated, std::size_t query) {
  const std::size_t width = packed_.width;
  const float* row = rotated.row(query);
  std::copy_n(panel.queries.row(query), width, &queries_[query * width]);
  std::copy_n(row, ld_, &rotated_[query * ld_]);
  Scale& scale = scales_[query];
  scale.norm = panel.norm(query);
  scale.fine_square = 0;
  for (std::size_t i = packed_.segment_start(kCoarseSegments); i < width; ++i) {
    scale.fine_square += std::pow(static_cast<double>(row[i]), 2);
  }
  const double longest = packed_.largest_norm * scale.norm;
  scale.step = longest > kSmallestProduct ? static_cast<double>(rounded_up(longest / 254)) : 1.0;
  const double error = coded_.set(query, row, scale.step) + rotation_error(width) * scale.norm;
  coded_.bounds(query).slack =  // 1: truncation
      1 + rounded_up((packed_.largest_norm * error + kFloatSlack * longest) / scale.step);
}

// Bounds of all queries' scores of one block, while the block after it comes in from memory, a slice a group.
void Anchor::score_block(std::size_t block, bool more, std::size_t count) {
  const std::uint8_t* atoms = block_codes(packed_, block);
  const std::size_t coarse_steps = packed_.segment_start(kCoarseSegments) / 4;
  const std::size_t ahead = more ? packed_.block_bytes() : 0, slice = ahead / groups(count) + kLineBytes;
  const BlockBounds bounds = block_bounds(packed_, block);
  alignas(kLineBytes) std::int32_t sums[kGroupQueries * kBlockAtoms];
  std::size_t fetched = 0;
  for (std::size_t first = 0; first < count; first += kGroupQueries) {
    for (const std::size_t to = std::min(fetched + slice, ahead); fetched < to; fetched += kLineBytes) {
      __builtin_prefetch(atoms + packed_.block_bytes() + fetched, 0, 2);
    }
    const std::int8_t* queries[kGroupQueries];
    for (std::size_t q = 0; q < kGroupQueries; ++q) queries[q] = coded_.codes(std::min(first + q, count - 1));
    kernels_.dot_tile(atoms, queries, coarse_steps, packed_.steps(), 2 * packed_.shift, sums);
    kernels_.keep_scores(sums, bounds, &coded_.bounds(first), std::min(kGroupQueries, count - first),
                         kept_.data() + (block * panel_size_ + first) * kBlockAtoms,
                         &maxima_[block * panel_size_ + first]);
  }
}

void Anchor::offer_candidates(const Panel& panel, Pool& pool, Rescorer& rescorer) const {
  const std::size_t count = panel.queries.rows, chunks = (count + kChunk - 1) / kChunk;
  std::vector<Atoms> seeds(count);
  std::vector<std::uint8_t> floors(chunks * kChunk);
  pool.run(chunks, [&](std::size_t chunk, std::size_t) { find_seeds(panel, chunk, seeds, &floors[chunk * kChunk]); });
  pool.run(count, [&](std::size_t query, std::size_t worker) {
    const double best =
        std::max(rescorer.best_known(panel, query, worker), rescorer.best_of(panel, query, seeds[query], worker));
    const double floor = std::floor(best / scales_[query].step - 1e-3);
    floors[query] = std::min(static_cast<std::uint8_t>(std::clamp(floor, 0.0, 255.0)), floors[query]);
  });
  pool.run(chunks, [&](std::size_t chunk, std::size_t worker) {
    visit(chunk, count, &floors[chunk * kChunk], [&](std::size_t query, std::size_t block, std::uint64_t mask) {
      rescorer.offer(panel, query, block, mask, worker);
    });
  });
}

// Atoms with the highest bounds, one of which will show a good score; floors (64) = the lowest bound among them, or
// of what shares their blocks.
void Anchor::find_seeds(const Panel& panel, std::size_t chunk, std::vector<Atoms>& seeds,
                        std::uint8_t* floors) const {
  const std::size_t first = chunk * kChunk, count = panel.queries.rows;
  std::vector<std::array<std::uint32_t, 256>> histograms(kChunk);
  for (std::size_t block = 0; block < packed_.blocks(); ++block) {
    const std::uint8_t* largest = maxima(block) + first;
    for (std::size_t q = 0; q < kChunk; ++q) ++histograms[q][largest[q]];
  }
  std::uint8_t tops[kChunk];
  for (std::size_t q = 0; q < kChunk; ++q) {
    std::size_t level = 255;
    while (level > 1 && histograms[q][level] == 0) --level;
    tops[q] = static_cast<std::uint8_t>(level);
    for (std::size_t blocks = 0; level > 1 && (blocks += histograms[q][level]) < kKnownAtoms;) --level;
    floors[q] = static_cast<std::uint8_t>(level);
  }
  visit(chunk, count, tops, [&](std::size_t query, std::size_t block, std::uint64_t mask) {
    for_each_bit(mask, [&](std::size_t bit) {
      const auto atom = static_cast<std::int64_t>(block * kBlockAtoms + bit);
      if (seeds[query].size() >= kKnownAtoms || atom >= static_cast<std::int64_t>(packed_.rows)) return;
      if (!panel.has_picked(query, atom)) seeds[query].push_back(atom);
    });
  });
}

// take(query, block, atoms whose bound reaches the query's floor) for the queries of a chunk, blocks in order.
template <class Take>
void Anchor::visit(std::size_t chunk, std::size_t count, const std::uint8_t* floors, const Take& take) const {
  const std::size_t first = chunk * kChunk;
  std::uint8_t floor_bytes[kBlockAtoms];
  for (std::size_t block = 0; block < packed_.blocks(); ++block) {
    for_each_bit(kernels_.at_least(maxima(block) + first, floors), [&](std::size_t q) {
      if (first + q >= count) return;
      std::fill(floor_bytes, floor_bytes + kBlockAtoms, floors[q]);
      take(first + q, block, kernels_.at_least(kept(block, first + q), floor_bytes));
    });
  }
}

}  // namespace headscan
