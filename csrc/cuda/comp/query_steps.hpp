// What a team does with one query between searches: start, rotate, quantise, take the atom found
// (cpu/comp/pursuit.cpp has the method). Picks and coefficients have the CPU's bits; rotated values and codes need
// not, their bounds cover it.
#pragma once

#include <cmath>

#include "common/best.hpp"
#include "common/refit_steps.hpp"
#include "cuda/search/layout.hpp"

namespace headscan::cuda {

// What a search sees of a panel, and where it leaves what it found.
struct SearchState {
  const double* queries = nullptr;       // (queries, width)
  const std::int64_t* picked = nullptr;  // (queries, k)
  std::size_t k = 0;
  Best* found = nullptr;             // (queries): the best so far; the search goes on from there
  float* rows = nullptr;             // a query's atom found, row_stride values apart
  std::size_t row_stride = 0;        // at least the width
  std::int64_t* rescored = nullptr;  // (queries): atoms scored in float64, added up
};

// The state of a panel of queries. `small` has RefitState::small_doubles(k) a query.
struct PanelState {
  std::size_t width = 0, fit_width = 0, k = 0;
  double coherence = 0;
  double *queries = nullptr, *sums = nullptr;                  // (queries, width)
  double *targets = nullptr, *residuals = nullptr;             // (queries, fit_width)
  double *basis = nullptr, *small = nullptr;                   // (queries, k, fit_width)
  std::int64_t* picked = nullptr;                              // (queries, k)
  float* rows = nullptr;                                       // (queries, k, width): the atoms picked
  Best* found = nullptr;                                       // (queries): of the round at work, index -1 before
  std::int64_t *active_counts = nullptr, *rescored = nullptr;  // (queries)
  std::uint8_t* bad = nullptr;                                 // (queries): x was not finite, or far too long

  HEADSCAN_BOTH SearchState search(std::size_t round) const {
    return {queries, picked, k, found, rows + round * width, k * width, rescored};
  }
  HEADSCAN_DEVICE const float* row(std::size_t slot, std::size_t round) const {
    return rows + (slot * k + round) * width;
  }
  HEADSCAN_DEVICE RefitState refit(std::size_t slot) const {
    RefitState state;
    state.width = fit_width;
    state.capacity = k;
    state.target = targets + slot * fit_width;
    state.residual = residuals + slot * fit_width;
    state.basis = basis + slot * k * fit_width;
    state.small = small + slot * RefitState::small_doubles(k);
    return state;
  }
};

template <class Team, class T>
HEADSCAN_DEVICE void start_query(const Team& team, const PanelState& panel, const T* x, std::size_t slot) {
  double* q = panel.queries + slot * panel.width;
  each(team, panel.width, [&](std::size_t i) { q[i] = i < panel.fit_width ? static_cast<double>(x[i]) : 0.0; });
  const bool bad = !(team.dot(q, q, panel.width) < 1e30);  // NaN and infinity too
  each(team, panel.width, [&](std::size_t i) {
    if (bad) q[i] = 0;
    panel.sums[slot * panel.width + i] = 0;
    if (i >= panel.fit_width) return;
    panel.targets[slot * panel.fit_width + i] = panel.residuals[slot * panel.fit_width + i] = q[i];
  });
  once(team, [&] {
    panel.active_counts[slot] = panel.rescored[slot] = 0;
    panel.found[slot] = Best{};
    panel.bad[slot] = bad ? 1 : 0;
  });
}

// Codes of a rotated query and what bounds its scores (cpu/search/quantise.cpp and Anchor::set_query).
template <class Team>
HEADSCAN_DEVICE void quantise_query(const Team& team, const CodeLayout& layout, const double* query,
                                    const float* rotated, std::int8_t* codes, QueryScale* scale) {
  float largest_coarse = 0, largest_fine = 0;
  each(team, layout.width, [&](std::size_t i) {
    float& largest = i < layout.coarse ? largest_coarse : largest_fine;
    largest = fmaxf(largest, fabsf(rotated[i]));
  });
  const auto coarser = static_cast<float>(1 << layout.atom_shift);
  const float fine_step = fmaxf(team.max(largest_coarse) / coarser, team.max(largest_fine)) / 127;
  double error = 0, norm = 0;
  each(team, layout.row_bytes, [&](std::size_t byte) {
    const std::size_t axis = layout.axis_of(byte);
    codes[byte] = 0;
    if (axis >= layout.width) return;
    const float step = axis < layout.coarse ? fine_step * coarser : fine_step;
    const float inverse = step > 0 ? 1 / step : 0.0F;
    const float code = fminf(fmaxf(nearbyintf(rotated[axis] * inverse), -127.0F), 127.0F);
    codes[byte] = static_cast<std::int8_t>(code);
    const double coded = static_cast<double>(code) * static_cast<double>(step);
    const double missed = static_cast<double>(rotated[axis]) - coded;
    error += missed * missed;
    norm += coded * coded;
  });
  constexpr double kRoundUp = 1 + 1e-6;  // far above the rounding of these sums and of float32
  error = std::sqrt(team.sum(error)) * kRoundUp;
  norm = std::sqrt(team.sum(norm)) * kRoundUp;
  const double length = std::sqrt(team.dot(query, query, layout.width));
  error += layout.rotation_error * length;
  constexpr double kSubnormal = 1e-35;  // far above what products of float32 lose there
  const double slack =
      length > 0 ? layout.largest_norm * (error + kFloatSlack * length) * kRoundUp + kSubnormal : 0.0;
  const double ratio = fine_step > 0 ? norm / static_cast<double>(fine_step) * kRoundUp : 0.0;
  if (team.lane() == 0) *scale = {fine_step, static_cast<float>(ratio), static_cast<float>(slack)};
}

// Takes the atom found into the code, refits, and says what to search for next.
template <class Team>
HEADSCAN_DEVICE void take_atom(const Team& team, const PanelState& panel, std::size_t slot, std::size_t round) {
  once(team, [&] {
    panel.picked[slot * panel.k + round] = panel.found[slot].index;
    panel.found[slot] = Best{};
  });
  RefitState state = panel.refit(slot);
  state.count = round;
  state.active_count = static_cast<std::size_t>(panel.active_counts[slot]);
  const auto columns = [&](std::size_t c) { return panel.row(slot, c); };
  const RefitOptions options;
  RefitSteps<Team, decltype(columns)>(team, state, columns, options).add();
  once(team, [&] { panel.active_counts[slot] = static_cast<std::int64_t>(state.active_count); });

  const double weight = panel.coherence / static_cast<double>(state.count);
  const float* atom = columns(round);
  double* q = panel.queries + slot * panel.width;
  double* sum = panel.sums + slot * panel.width;
  const std::size_t coherent = panel.fit_width < panel.width ? panel.fit_width : 0;  // where coherence is measured
  each(team, panel.width, [&](std::size_t i) {
    const double residual = i < panel.fit_width ? state.residual[i] : 0.0;
    if (i >= coherent) sum[i] += static_cast<double>(atom[i]);
    q[i] = i >= coherent ? residual + weight * sum[i] : residual;
  });
}

// What the searches of other parts of the dictionary found: (parts, stride) each, rows (parts, stride, width).
struct OtherResults {
  const Best* found = nullptr;
  const float* rows = nullptr;
  const std::int64_t* rescored = nullptr;
  std::size_t parts = 0, stride = 0;
};

// The best of all parts becomes the panel's.
template <class Team>
HEADSCAN_DEVICE void merge_found(const Team& team, const PanelState& panel, const OtherResults& others,
                                 std::size_t slot, std::size_t round) {
  Best best = panel.found[slot];
  std::size_t from = others.parts;  // the panel's own
  std::int64_t rescored = 0;
  for (std::size_t part = 0; part < others.parts; ++part) {
    const std::size_t at = part * others.stride + slot;
    rescored += others.rescored[at];
    const Best other = others.found[at];
    if (other.index < 0) continue;
    best.offer(other.score, other.index);
    if (best.index == other.index) from = part;
  }
  float* row = panel.rows + (slot * panel.k + round) * panel.width;
  each(team, panel.width, [&](std::size_t i) {
    if (from < others.parts) row[i] = others.rows[(from * others.stride + slot) * panel.width + i];
  });
  once(team, [&] {
    panel.found[slot] = best;
    panel.rescored[slot] += rescored;
  });
}

template <class Team>
HEADSCAN_DEVICE void write_code(const Team& team, const PanelState& panel, std::size_t slot, std::int64_t* indices,
                                double* coefficients, std::uint8_t* certified) {
  const bool bad = panel.bad[slot] != 0;
  const RefitState state = panel.refit(slot);
  each(team, panel.k, [&](std::size_t i) {
    indices[i] = bad ? -1 : panel.picked[slot * panel.k + i];
    coefficients[i] = bad ? 0.0 : state.coefficients()[i];
  });
  if (team.lane() == 0) *certified = bad ? 0 : 1;
}

// A 64 x 64 tile of rotated = queries * rotation, summed in float64; 256 threads, 4 x 4 values each.
inline constexpr std::size_t kRotateTile = 64, kRotateDepth = 16;
struct RotateShared {
  double queries[kRotateDepth][kRotateTile + 1];
  float rotation[kRotateDepth][kRotateTile];
};

template <class Block>
HEADSCAN_DEVICE void rotate_tile(const Block& block, RotateShared& shared, const double* queries,
                                 const float* rotation, std::size_t count, std::size_t width, std::size_t first_query,
                                 std::size_t first_axis, float* rotated) {
  const std::size_t row = block.rank() / 16 * 4, column = block.rank() % 16 * 4;
  double sums[4][4] = {};
  for (std::size_t depth = 0; depth < width; depth += kRotateDepth) {
    for (std::size_t i = block.rank(); i < kRotateTile * kRotateDepth; i += block.size()) {
      const std::size_t query = i / kRotateDepth, p = i % kRotateDepth, step = i / kRotateTile,
                        axis = i % kRotateTile;
      const bool has_query = first_query + query < count && depth + p < width;
      const bool has_axis = first_axis + axis < width && depth + step < width;
      shared.queries[p][query] = has_query ? queries[(first_query + query) * width + depth + p] : 0.0;
      shared.rotation[step][axis] = has_axis ? rotation[(depth + step) * width + first_axis + axis] : 0.0F;
    }
    block.sync();
    for (std::size_t p = 0; p < kRotateDepth; ++p) {
      for (std::size_t i = 0; i < 4; ++i) {
        for (std::size_t j = 0; j < 4; ++j) {
          const auto axis = static_cast<double>(shared.rotation[p][column + j]);
          sums[i][j] = fma(shared.queries[p][row + i], axis, sums[i][j]);
        }
      }
    }
    block.sync();
  }
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      const std::size_t query = first_query + row + i, axis = first_axis + column + j;
      if (query < count && axis < width) rotated[query * width + axis] = static_cast<float>(sums[i][j]);
    }
  }
}

}  // namespace headscan::cuda
