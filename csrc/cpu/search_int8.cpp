#include "cpu/search_int8.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "cpu/exact.hpp"
#include "cpu/quantise.hpp"
#include "cpu/search_f32.hpp"

namespace headscan {
namespace {

constexpr std::size_t kChunk = 64;    // queries whose floors are compared at once
constexpr std::size_t kPool = 32;     // atoms kept a query to know a good score at once
constexpr double kFloatSlack = 4e-6;  // float32 rounding in the bounds, relative to |g| |q|

float rounded_up(double value) { return static_cast<float>(value * (1 + 1e-6)); }
float rounded_down(double value) { return static_cast<float>(value - std::abs(value) * 1e-6); }

double norm_of(const double* values, std::size_t width) { return std::sqrt(dot(values, values, width)); }

template <class Visit>
void for_each_bit(std::uint64_t mask, const Visit& visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<std::size_t>(__builtin_ctzll(mask)));
}

// Scale, norms and offsets that a query's codes alone decide; `unit` is what bounds are measured in.
void set_code_bounds(QueryBounds& bounds, const Quantised& quantised, const std::int8_t* codes,
                     const PackedLayout& layout, double unit) {
  bounds.scale = static_cast<float>(static_cast<double>(quantised.scale) / unit);
  bounds.shift = 2 * layout.shift;
  for (std::size_t s = 0; s < kSegments; ++s) {
    const std::int8_t* first = codes + layout.segment_start(s);
    bounds.norm[s] = rounded_up(quantised.norm[s] / unit);
    bounds.offset[s] = -128 * std::accumulate(first, first + layout.segment_steps(s) * 4, 0);
  }
}

}  // namespace

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
    pool.run((count + kChunk - 1) / kChunk,
             [&](std::size_t chunk, std::size_t worker) { anchor_candidates(panel, chunk, workers_[worker]); });
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

// ---- anchor rounds: every atom is scored ----

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
    for (std::size_t first = 0; first < count; first += kGroupQueries) {
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
  double best[kChunk];
  std::size_t tried[kChunk] = {};
  for (std::size_t q = 0; q < kChunk; ++q) {
    best[q] = -std::numeric_limits<double>::infinity();
    if (q >= count) continue;
    for (const auto atom : pools_[first + q]) {
      if (!panel.has_picked(first + q, atom)) best[q] = std::max(best[q], exact(panel, first + q, atom, worker));
    }
  }
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

// ---- rounds between anchors: bounds narrow the atoms down ----

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
  double best = -std::numeric_limits<double>::infinity();
  for (const auto atom : pools_[query]) {
    if (!panel.has_picked(query, atom)) best = std::max(best, exact(panel, query, atom, worker));
  }
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
      int8_.dot_tile(atoms, queries, steps, sums);
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

// ---- float64 decides ----

void SearchInt8::take_candidates(const Panel& panel, std::size_t query, std::size_t block, std::uint64_t mask,
                                 Worker& worker) {
  for_each_bit(mask, [&](std::size_t bit) {
    const auto atom = static_cast<std::int64_t>(block * kBlockAtoms + bit);
    if (atom >= static_cast<std::int64_t>(packed_.rows) || worker.counts[query] > candidate_limit_) return;
    if (panel.has_picked(query, atom)) return;
    ++worker.counts[query];
    worker.candidates.push_back({static_cast<std::uint32_t>(query), atom});
  });
}

void SearchInt8::rescore(const Panel& panel, Pool& pool, std::int64_t* best) {
  const std::size_t count = panel.queries.rows;
  std::vector<std::size_t> ends(count + 1, 0);
  std::vector<std::uint8_t> overflowing(count, 0);
  for (const Worker& worker : workers_) {
    for (std::size_t q = 0; q < count; ++q) {
      ends[q + 1] += worker.counts[q];
      if (worker.counts[q] > candidate_limit_) overflowing[q] = 1;
    }
  }
  for (std::size_t q = 0; q < count; ++q) ends[q + 1] += ends[q];
  std::vector<std::int64_t> atoms(ends[count]);
  std::vector<std::size_t> next(ends.begin(), ends.end() - 1);
  for (Worker& worker : workers_) {
    for (const Candidate& candidate : worker.candidates) atoms[next[candidate.query]++] = candidate.atom;
    worker.candidates.clear();
  }
  pool.run(count, [&](std::size_t query, std::size_t worker) {
    if (overflowing[query] != 0) return;
    std::vector<std::pair<double, std::int64_t>> scored;
    for (std::size_t i = ends[query]; i < ends[query + 1]; ++i) {
      if (i + 2 < ends[query + 1]) rows_.prefetch(atoms[i + 2]);
      scored.emplace_back(-exact(panel, query, atoms[i], workers_[worker]), atoms[i]);
    }
    std::sort(scored.begin(), scored.end());  // highest score first, ties by index
    if (scored.empty()) {
      overflowing[query] = 1;  // no score was known to compare with: scan plainly
      return;
    }
    best[query] = scored.front().second;
    remember(query, scored);
  });
  fall_back(panel, overflowing, pool, best);
}

// Keeps the best atoms of this round in front of those of earlier ones.
void SearchInt8::remember(std::size_t query, const std::vector<std::pair<double, std::int64_t>>& scored) {
  std::vector<std::int64_t> known;
  for (std::size_t i = 0; i < std::min(scored.size(), kPool); ++i) known.push_back(scored[i].second);
  for (const auto atom : pools_[query]) {
    if (known.size() < kPool && std::find(known.begin(), known.end(), atom) == known.end()) known.push_back(atom);
  }
  pools_[query] = std::move(known);
}

void SearchInt8::fall_back(const Panel& panel, const std::vector<std::uint8_t>& needed, Pool& pool,
                           std::int64_t* best) {
  std::vector<std::size_t> which;
  for (std::size_t q = 0; q < needed.size(); ++q) {
    if (needed[q] != 0) which.push_back(q);
  }
  if (which.empty()) return;
  const std::size_t width = packed_.width, n = which.size();
  std::vector<double> queries(n * width);
  std::vector<std::int64_t> picked(n * panel.picked_stride), picks(n);
  for (std::size_t i = 0; i < n; ++i) {
    std::copy_n(panel.queries.row(which[i]), width, &queries[i * width]);
    std::copy_n(panel.picked + which[i] * panel.picked_stride, panel.picked_stride, &picked[i * panel.picked_stride]);
  }
  SearchF32 plain(rows_.atoms(), pool);
  plain.argmax({{queries.data(), n, width, width}, picked.data(), panel.picked_stride, panel.round}, pool,
               picks.data());
  for (std::size_t i = 0; i < n; ++i) best[which[i]] = picks[i];
  counters_.fallbacks += n;
}

}  // namespace headscan
