// The end of a round's search: visits a query's blocks of atoms from the highest bound down, until none left can hold
// the arg-max. In a block, int8 sums bound each atom's score and float64 decides among those that still reach. There
// are no lists to overflow: where bounds narrow nothing down, all blocks are visited, which is the plain scan.
//
// A dictionary may come in chunks, in any order: each goes on from the best of those before, and as the arg-max is by
// score and then by index, the order changes nothing.
#pragma once

#include <cmath>
#include <cstring>

#include "cuda/comp/query_steps.hpp"

namespace headscan::cuda {

inline constexpr std::size_t kSelectTeams = 16;

struct SelectInput {
  CodeLayout layout;               // of the chunk
  std::int64_t first;              // the index of its first atom
  const std::int8_t* codes;        // (padded rows, row_bytes)
  const float *scale, *error;      // (padded rows)
  const float* atoms;              // (rows, width)
  const std::int8_t* query_codes;  // (queries, row_bytes)
  const QueryScale* scales;        // (queries)
  float* bounds;                   // (queries, padded blocks); those of visited blocks are lost
  SearchState state;               // of its picks the first `round` are in use
  std::size_t round;
};

struct SelectShared {
  std::uint64_t tops[kSelectTeams];
  Best bests[kSelectTeams];
  unsigned scored[kSelectTeams];
};

// A bound and its block in one number: the higher bound is the larger, then the lower block; 0 is none.
HEADSCAN_DEVICE std::uint64_t bound_key(float bound, std::size_t block) {
  std::uint32_t bits;
  memcpy(&bits, &bound, sizeof(bits));
  bits = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return static_cast<std::uint64_t>(bits) << 32U | (0xffffffffU - static_cast<std::uint32_t>(block));
}
HEADSCAN_DEVICE std::size_t block_of(std::uint64_t key) { return 0xffffffffU - static_cast<std::uint32_t>(key); }
HEADSCAN_DEVICE float bound_of(std::uint64_t key) {
  auto bits = static_cast<std::uint32_t>(key >> 32U);
  bits = (bits & 0x80000000U) != 0 ? bits & 0x7fffffffU : ~bits;
  float bound;
  memcpy(&bound, &bits, sizeof(bound));
  return bound;
}

// sum + the products of four int8 values each.
HEADSCAN_DEVICE std::int32_t add_products(std::uint32_t a, std::uint32_t b, std::int32_t sum) {
#if defined(__CUDA_ARCH__)
  return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
#else
  for (unsigned bit = 0; bit < 32; bit += 8) {
    sum += static_cast<std::int8_t>(a >> bit & 0xffU) * static_cast<std::int8_t>(b >> bit & 0xffU);
  }
  return sum;
#endif
}

struct alignas(16) Words {
  std::uint32_t values[4];
};

// The integer sum of one row of codes with another, by a team.
template <class Team>
HEADSCAN_DEVICE std::int32_t code_sum(const Team& team, const CodeLayout& layout, const std::int8_t* a,
                                      const std::int8_t* b) {
  const auto* left = reinterpret_cast<const Words*>(a);
  const auto* right = reinterpret_cast<const Words*>(b);
  std::int32_t sums[2] = {};  // fine, coarse
  each(team, layout.row_bytes / sizeof(Words), [&](std::size_t i) {
    const Words x = left[i], y = right[i];
    std::int32_t sum = 0;
    for (unsigned word = 0; word < 4; ++word) sum = add_products(x.values[word], y.values[word], sum);
    if (i < layout.coarse_bytes / sizeof(Words)) {
      sums[1] += sum;
    } else {
      sums[0] += sum;
    }
  });
  return team.sum(sums[1] * (1 << layout.shift()) + sums[0]);
}

HEADSCAN_DEVICE bool has_picked(const SelectInput& in, std::size_t query, std::int64_t atom) {
  for (std::size_t i = 0; i < in.round; ++i) {
    if (in.state.picked[query * in.state.k + i] == atom) return true;
  }
  return false;
}

// One team's share of a block of atoms; `known` is the best so far, `mine` the best of this share.
template <class Team>
HEADSCAN_DEVICE unsigned visit(const Team& team, const SelectInput& in, std::size_t query, std::size_t block,
                               std::size_t first, std::size_t step, const Best& known, Best& mine) {
  const CodeLayout& layout = in.layout;
  const QueryScale q = in.scales[query];
  unsigned scored = 0;
  for (std::size_t i = first; i < kBlockAtoms; i += step) {
    const std::size_t atom = block * kBlockAtoms + i;
    const std::int64_t named = in.first + static_cast<std::int64_t>(atom);
    if (atom >= layout.rows || has_picked(in, query, named)) continue;
    const std::int32_t sum =
        code_sum(team, layout, in.codes + atom * layout.row_bytes, in.query_codes + query * layout.row_bytes);
    const float bound =
        fmaf(fmaf(static_cast<float>(sum), in.scale[atom], in.error[atom] * q.ratio), q.scale, q.slack);
    if (known.index >= 0 && static_cast<double>(bound) < known.score) continue;
    ++scored;
    mine.offer(team.dot(in.atoms + atom * layout.width, in.state.queries + query * layout.width, layout.width),
               named);
  }
  return scored;
}

// The arg-max among the atoms that the query has not picked and what it found before; its row, where it is of this
// chunk.
template <class Block>
HEADSCAN_DEVICE void select_best(const Block& block, SelectShared& shared, const SelectInput& in, std::size_t query) {
  const auto team = block.team();
  const std::size_t lanes = decltype(team)::kLanes, index = block.rank() / lanes, teams = block.size() / lanes;
  const std::size_t blocks = in.layout.blocks();
  float* bounds = in.bounds + query * in.layout.padded_blocks();
  const auto highest_of_mine = [&] {  // of the blocks that this thread watches over
    std::uint64_t top = 0;
    for (std::size_t b = block.rank(); b < blocks; b += block.size()) {
      const std::uint64_t key = bounds[b] > -INFINITY ? bound_key(bounds[b], b) : 0;
      top = key > top ? key : top;
    }
    return top;
  };
  const Best before = in.state.found[query];
  Best best = before;
  std::int64_t scored = 0;
  for (std::uint64_t mine = highest_of_mine();;) {
    const std::uint64_t of_team = team.max(mine);
    if (team.lane() == 0) shared.tops[index] = of_team;
    block.sync();
    std::uint64_t top = 0;
    for (std::size_t t = 0; t < teams; ++t) top = shared.tops[t] > top ? shared.tops[t] : top;
    if (top == 0) break;
    const auto bound = static_cast<double>(bound_of(top));
    const std::size_t visited = block_of(top);
    const bool too_late = in.first + static_cast<std::int64_t>(visited * kBlockAtoms) > best.index;  // to win a tie
    if (best.index >= 0 && (bound < best.score || (bound == best.score && too_late))) break;
    if (visited % block.size() == block.rank()) {
      bounds[visited] = -INFINITY;
      mine = highest_of_mine();
    }
    Best of_share;
    const unsigned count = visit(team, in, query, visited, index, teams, best, of_share);
    if (team.lane() == 0) {
      shared.bests[index] = of_share;
      shared.scored[index] = count;
    }
    block.sync();
    for (std::size_t t = 0; t < teams; ++t) {
      if (shared.bests[t].index >= 0) best.offer(shared.bests[t].score, shared.bests[t].index);
      scored += shared.scored[t];
    }
  }
  if (best.index != before.index) {
    const float* atom = in.atoms + static_cast<std::size_t>(best.index - in.first) * in.layout.width;
    float* row = in.state.rows + query * in.state.row_stride;
    for (std::size_t i = block.rank(); i < in.layout.width; i += block.size()) row[i] = atom[i];
  }
  if (block.rank() == 0) {
    in.state.found[query] = best;
    in.state.rescored[query] += scored;
  }
}

}  // namespace headscan::cuda
