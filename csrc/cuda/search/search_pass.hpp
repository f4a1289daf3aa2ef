// The first pass of a round: an upper bound of the best score in every block of 64 atoms, for every query. Scores are
// int8 products on the tensor cores and stay in registers; of each 64 x 64 of them only 64 bounds go to memory.
//
// A block of threads takes kTileAtoms x kTileQueries scores, a warp 64 x 64 of them. Rows of codes come through
// shared memory kSlab bytes at a time, kStages - 1 slabs ahead; rows there are kStride bytes apart, so that the eight
// rows of a matrix load lie in different banks.
#pragma once

#include <cmath>

#include "cuda/search/layout.hpp"

namespace headscan::cuda {

inline constexpr std::size_t kStages = 4, kStride = kSlab + 16;

struct PassInput {
  const std::int8_t* atoms;    // (padded rows, row_bytes)
  const float *scale, *error;  // (padded rows)
  const std::int8_t* queries;  // (padded queries, row_bytes)
  const QueryScale* scales;    // (padded queries)
  std::size_t row_bytes, coarse_bytes;
  int shift;
  float* bounds;  // (padded queries, padded blocks)
  std::size_t padded_blocks;
};

template <std::size_t kAtomWarps, std::size_t kQueryWarps>
struct alignas(16) PassShared {
  std::int8_t stages[kStages][64 * (kAtomWarps + kQueryWarps)][kStride];
};

// The scores of a warp: sums[i][j] is the fragment of atoms 16 i .. and queries 8 j ..; of its four values lane l has
// atoms l / 4 (the first two) and l / 4 + 8, queries 2 (l % 4) and the next.
struct WarpSums {
  std::int32_t values[4][8][4];
};

// One step: 32 bytes of 64 atoms times the same bytes of 64 queries, both in shared memory.
template <class Block>
HEADSCAN_DEVICE void multiply_step(const Block& block, const std::int8_t* atoms, const std::int8_t* queries,
                                   WarpSums& sums) {
  const unsigned lane = block.rank() % 32, row = lane % 8, matrix = lane / 8;
  std::uint32_t a[4][4], b[4][4];
  for (unsigned i = 0; i < 4; ++i) {  // matrices: atoms 0-7, 8-15 of the first 16 bytes, then of the others
    block.load_matrices(a[i], atoms + (i * 16 + matrix % 2 * 8 + row) * kStride + matrix / 2 * 16);
  }
  for (unsigned i = 0; i < 4; ++i) {  // matrices: both halves of queries 0-7, then of 8-15
    block.load_matrices(b[i], queries + (i * 16 + matrix / 2 * 8 + row) * kStride + matrix % 2 * 16);
  }
  for (unsigned i = 0; i < 4; ++i) {
    for (unsigned j = 0; j < 8; ++j) block.multiply(sums.values[i][j], a[i], b[j / 2] + j % 2 * 2);
  }
}

// Bounds of one warp's block of atoms, one a query, into column `atom_block` of the bounds.
template <class Block>
HEADSCAN_DEVICE void write_bounds(const Block& block, const PassInput& in, const WarpSums& sums,
                                  std::size_t atom_block, std::size_t first_query) {
  const unsigned lane = block.rank() % 32, row = lane / 4;
  float scale[4][2], error[4][2];
  for (unsigned i = 0; i < 4; ++i) {
    for (unsigned half = 0; half < 2; ++half) {
      const std::size_t atom = atom_block * kBlockAtoms + i * 16 + half * 8 + row;
      scale[i][half] = in.scale[atom];
      error[i][half] = in.error[atom];
    }
  }
  for (unsigned j = 0; j < 8; ++j) {
    for (unsigned side = 0; side < 2; ++side) {
      const std::size_t query = first_query + j * 8 + lane % 4 * 2 + side;
      const QueryScale q = in.scales[query];
      float largest = -INFINITY;
      for (unsigned i = 0; i < 4; ++i) {
        for (unsigned half = 0; half < 2; ++half) {
          const auto sum = static_cast<float>(sums.values[i][j][half * 2 + side]);
          largest = fmaxf(largest, fmaf(sum, scale[i][half], error[i][half] * q.ratio));
        }
      }
      largest = block.max_over_rows(largest);
      if (row == j) in.bounds[query * in.padded_blocks + atom_block] = fmaf(largest, q.scale, q.slack);
    }
  }
}

template <std::size_t kAtomWarps, std::size_t kQueryWarps, class Block>
HEADSCAN_DEVICE void bound_tile(const Block& block, PassShared<kAtomWarps, kQueryWarps>& shared, const PassInput& in,
                                std::size_t first_atom, std::size_t first_query) {
  constexpr std::size_t kAtoms = 64 * kAtomWarps, kRows = kAtoms + 64 * kQueryWarps;
  const std::size_t warp = block.rank() / 32, slabs = in.row_bytes / kSlab;
  const std::size_t atom_row = warp % kAtomWarps * 64, query_row = warp / kAtomWarps * 64;
  const auto load = [&](std::size_t slab) {
    for (std::size_t part = block.rank(); part < kRows * (kSlab / 16); part += block.size()) {
      const std::size_t row = part / (kSlab / 16), byte = part % (kSlab / 16) * 16;
      const std::int8_t* from = row < kAtoms ? in.atoms + (first_atom + row) * in.row_bytes
                                             : in.queries + (first_query + row - kAtoms) * in.row_bytes;
      block.copy_async(&shared.stages[slab % kStages][row][byte], from + slab * kSlab + byte);
    }
  };
  for (std::size_t slab = 0; slab < kStages - 1; ++slab) {
    if (slab < slabs) load(slab);
    block.commit();
  }
  WarpSums sums = {};
  const auto lift = [&] {  // what is there are coarse steps
    for (auto& rows : sums.values) {
      for (auto& fragment : rows) {
        for (std::int32_t& value : fragment) value *= 1 << in.shift;
      }
    }
  };
  for (std::size_t slab = 0; slab < slabs; ++slab) {
    block.template wait<kStages - 2>();
    block.sync();  // the slab is there for all, and all are done with the one before, whose place is filled next
    if (slab + kStages - 1 < slabs) load(slab + kStages - 1);
    block.commit();
    const auto& stage = shared.stages[slab % kStages];
    for (std::size_t byte = 0; byte < kSlab; byte += kStep) {
      if (slab * kSlab + byte == in.coarse_bytes) lift();
      multiply_step(block, &stage[atom_row][byte], &stage[kAtoms + query_row][byte], sums);
    }
  }
  if (in.coarse_bytes == in.row_bytes) lift();
  write_bounds(block, in, sums, (first_atom + atom_row) / kBlockAtoms, first_query + query_row);
}

}  // namespace headscan::cuda
