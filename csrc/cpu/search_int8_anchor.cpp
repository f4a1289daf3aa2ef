// Anchor rounds: every atom is scored, and an upper bound of its score kept in a byte.
#include <algorithm>
#include <array>
#include <cmath>

#include "cpu/search_int8.hpp"
#include "cpu/search_int8_common.hpp"

namespace headscan {

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
  bounds.slack = rounded_up((packed_.largest_norm * error + kFloatSlack * longest) / step);
}

void SearchInt8::anchor_pass(std::size_t count, Pool& pool) {
  pool.run(packed_.blocks(), [&](std::size_t block, std::size_t worker) {
    const std::uint8_t* atoms = packed_.codes + block * packed_.block_bytes();
    const std::size_t coarse_steps = packed_.segment_start(kCoarseSegments) / 4;
    const BlockBounds bounds = block_bounds(block);
    alignas(64) std::int32_t coarse[kGroupQueries * kBlockAtoms], fine[kGroupQueries * kBlockAtoms];
    // The next block comes in from memory while this one is worked on, a slice a group.
    const std::uint8_t* next = block + 1 < packed_.blocks() ? atoms + packed_.block_bytes() : atoms;
    const std::size_t slice = packed_.block_bytes() * kGroupQueries / count + 64;
    for (std::size_t first = 0; first < count; first += kGroupQueries) {
      const std::size_t from = first / kGroupQueries * slice;
      for (std::size_t i = from; i < std::min(from + slice, packed_.block_bytes()); i += 64) {
        __builtin_prefetch(next + i, 0, 2);
      }
      const std::int8_t* queries[kGroupQueries];
      for (std::size_t q = 0; q < kGroupQueries; ++q) queries[q] = codes(std::min(first + q, count - 1));
      int8_.dot_tile(atoms, queries, coarse_steps, coarse);
      for (auto& query : queries) query += coarse_steps * 4;
      int8_.dot_tile(atoms + coarse_steps * kBlockAtoms * 4, queries, packed_.steps() - coarse_steps, fine);
      for (std::size_t q = 0; q < std::min(kGroupQueries, count - first); ++q) {
        kept_maxima_[block * panel_size_ + first + q] = int8_.keep_scores(
            coarse + q * kBlockAtoms, fine + q * kBlockAtoms, bounds, bounds_[first + q], kept(block, first + q));
      }
      workers_[worker].multiply_adds += kGroupQueries * packed_.block_bytes();
    }
  });
}

void SearchInt8::anchor_candidates(const Panel& panel, std::size_t chunk, Worker& worker) {
  const std::size_t first = chunk * kChunk, count = std::min(kChunk, panel.queries.rows - first);
  std::uint8_t floors[kChunk] = {}, seed_floors[kChunk] = {};
  std::vector<std::array<std::uint32_t, 256>> histograms(kChunk);
  for (std::size_t block = 0; block < packed_.blocks(); ++block) {
    const std::uint8_t* maxima = &kept_maxima_[block * panel_size_ + first];
    for (std::size_t q = 0; q < kChunk; ++q) ++histograms[q][maxima[q]];
  }
  for (std::size_t q = 0; q < kChunk; ++q) {
    std::size_t level = 255;
    while (level > 1 && histograms[q][level] == 0) --level;
    floors[q] = static_cast<std::uint8_t>(level);
    for (std::size_t blocks = 0; level > 1 && (blocks += histograms[q][level]) < kPool;) --level;
    seed_floors[q] = static_cast<std::uint8_t>(level);
  }
  std::uint8_t floor_bytes[kBlockAtoms];
  const auto visit = [&](const auto& take) {  // take(query in chunk, block, mask of atoms at or above its floor)
    for (std::size_t block = 0; block < packed_.blocks(); ++block) {
      for_each_bit(int8_.at_least(&kept_maxima_[block * panel_size_ + first], floors), [&](std::size_t q) {
        if (q >= count) return;
        std::fill(floor_bytes, floor_bytes + kBlockAtoms, floors[q]);
        take(q, block, int8_.at_least(kept(block, first + q), floor_bytes));
      });
    }
  };

  // A good score first: the pool of earlier rounds and the atoms with the highest bounds.
  double best[kChunk] = {};
  std::size_t tried[kChunk] = {};
  for (std::size_t q = 0; q < count; ++q) best[q] = best_in_pool(panel, first + q, worker);
  visit([&](std::size_t q, std::size_t block, std::uint64_t mask) {
    for_each_bit(mask, [&](std::size_t bit) {
      const auto atom = static_cast<std::int64_t>(block * kBlockAtoms + bit);
      if (tried[q] >= kPool || atom >= static_cast<std::int64_t>(packed_.rows)) return;
      if (panel.has_picked(first + q, atom)) return;
      ++tried[q];
      best[q] = std::max(best[q], exact(panel, first + q, atom, worker));
    });
  });
  for (std::size_t q = 0; q < count; ++q) {
    const double step = static_cast<double>(anchor_[first + q].step);
    const double floor = std::floor(best[q] / step - 1e-3);
    floors[q] = std::min(static_cast<std::uint8_t>(std::clamp(floor, 0.0, 255.0)), seed_floors[q]);
  }
  visit([&](std::size_t q, std::size_t block, std::uint64_t mask) {
    take_candidates(panel, first + q, block, mask, worker);
  });
}

}  // namespace headscan
