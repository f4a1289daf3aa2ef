// Small dense matrices (rank, rank), row-major, float64, worked on by one block of threads.
#pragma once

#include <cmath>

#include "common/team.hpp"

namespace headscan::cuda {

inline constexpr std::size_t kStageRows = 16;  // rows of a factor that go through shared memory at a time

// Over all threads of a block; `slots` holds a value a team. Every thread gets the result.
template <class Block, class Join>
HEADSCAN_DEVICE double over_block(const Block& block, double* slots, double of_team, const Join& join) {
  const auto team = block.team();
  const std::size_t lanes = decltype(team)::kLanes, teams = block.size() / lanes;
  block.sync();
  if (team.lane() == 0) slots[block.rank() / lanes] = of_team;
  block.sync();
  double joined = slots[0];
  for (std::size_t t = 1; t < teams; ++t) joined = join(joined, slots[t]);
  return joined;
}

template <class Block>
HEADSCAN_DEVICE double block_sum(const Block& block, double* slots, double value) {
  return over_block(block, slots, block.team().sum(value), [](double a, double b) { return a + b; });
}

template <class Block>
HEADSCAN_DEVICE double block_max(const Block& block, double* slots, double value) {
  return over_block(block, slots, block.team().max(value), [](double a, double b) { return b > a ? b : a; });
}

// visit(i) for all i < n, shared out among the threads; between two syncs of the block.
template <class Block, class Visit>
HEADSCAN_DEVICE void share(const Block& block, std::size_t n, const Visit& visit) {
  block.sync();
  for (std::size_t i = block.rank(); i < n; i += block.size()) visit(i);
  block.sync();
}

template <class Block>
HEADSCAN_DEVICE double frobenius(const Block& block, double* slots, const double* values, std::size_t n) {
  double sum = 0;
  share(block, n, [&](std::size_t i) { sum = fma(values[i], values[i], sum); });
  return std::sqrt(block_sum(block, slots, sum));
}

// In place: gram becomes U with U^T U = gram, zero below the diagonal. False if not positive.
template <class Block>
HEADSCAN_DEVICE bool cholesky(const Block& block, double* gram, std::size_t rank) {
  for (std::size_t i = 0; i < rank; ++i) {
    const double diagonal = gram[i * rank + i];
    if (!(diagonal > 0)) return false;
    const double inverse = 1 / std::sqrt(diagonal);
    share(block, rank, [&](std::size_t j) {
      double& value = gram[i * rank + j];
      value = j < i ? 0.0 : value * inverse;
    });
    const std::size_t left = rank - i - 1;
    share(block, left * left, [&](std::size_t at) {
      const std::size_t p = i + 1 + at / left, j = i + 1 + at % left;
      if (j >= p) gram[p * rank + j] = fma(-gram[i * rank + p], gram[i * rank + j], gram[p * rank + j]);
    });
  }
  return true;
}

// A thread a column, by back-substitution.
template <class Block>
HEADSCAN_DEVICE void inverse_upper(const Block& block, const double* upper, std::size_t rank, double* inverse) {
  share(block, rank, [&](std::size_t column) {
    for (std::size_t i = rank; i-- > 0;) {
      double value = i == column ? 1.0 : 0.0;
      for (std::size_t p = i + 1; p <= column; ++p) {
        value = fma(-upper[i * rank + p], inverse[p * rank + column], value);
      }
      inverse[i * rank + column] = i > column ? 0.0 : value / upper[i * rank + i];
    }
  });
}

// The pairs of a round go to teams, as in a tournament: seat 0 stays, the others move on (Brent and Luk 1985).
HEADSCAN_DEVICE std::size_t seated(std::size_t seat, std::size_t round, std::size_t players) {
  const std::size_t others = players - 1;
  return seat == 0 ? 0 : 1 + (seat - 1 + others - round % others) % others;
}

// Makes two rows of a orthogonal, and turns those of v alike. Returns whether they were not yet.
template <class Team>
HEADSCAN_DEVICE bool rotate_pair(const Team& team, double* a_left, double* a_right, double* v_left, double* v_right,
                                 std::size_t rank, double tolerance) {
  double x = 0, y = 0, p = 0;
  each(team, rank, [&](std::size_t i) {
    x = fma(a_left[i], a_left[i], x);
    y = fma(a_right[i], a_right[i], y);
    p = fma(a_left[i], a_right[i], p);
  });
  x = team.sum(x);
  y = team.sum(y);
  p = team.sum(p);
  if (!(p * p > tolerance * tolerance * x * y)) return false;
  const double zeta = (y - x) / (2 * p);
  const double t = copysign(1.0, zeta) / (fabs(zeta) + std::sqrt(1 + zeta * zeta)), c = 1 / std::sqrt(1 + t * t);
  const double s = t * c;
  each(team, rank, [&](std::size_t i) {
    const double al = a_left[i], ar = a_right[i], vl = v_left[i], vr = v_right[i];
    a_left[i] = fma(c, al, -s * ar);
    a_right[i] = fma(s, al, c * ar);
    v_left[i] = fma(c, vl, -s * vr);
    v_right[i] = fma(s, vl, c * vr);
  });
  return true;
}

// One-sided Jacobi: rotates the rows of a until the cosine of any two is at most `tolerance`, and those of v alike.
template <class Block>
HEADSCAN_DEVICE void jacobi(const Block& block, double* slots, double* a, double* v, std::size_t rank,
                            double tolerance) {
  constexpr int kMaxSweeps = 60;
  const auto team = block.team();
  const std::size_t lanes = decltype(team)::kLanes, index = block.rank() / lanes, teams = block.size() / lanes;
  const std::size_t players = rank + rank % 2;  // row `rank`, if it plays, is not there
  for (int sweep = 0; sweep < kMaxSweeps; ++sweep) {
    bool rotated = false;
    for (std::size_t round = 0; round + 1 < players; ++round) {
      block.sync();
      for (std::size_t m = index; m < players / 2; m += teams) {
        const std::size_t x = seated(m, round, players), y = seated(players - 1 - m, round, players);
        const std::size_t left = (x < y ? x : y) * rank, right = (x < y ? y : x) * rank;
        if (right == rank * rank) continue;
        rotated = rotate_pair(team, a + left, a + right, v + left, v + right, rank, tolerance) || rotated;
      }
    }
    if (block_max(block, slots, rotated ? 1.0 : 0.0) == 0) return;
  }
}

}  // namespace headscan::cuda
