// How a packed dictionary and the queries lie in the GPU's memory.
//
// A row of codes: the coarse axes, padded with zeros to a multiple of 32, then the fine ones, the whole padded to a
// multiple of kSlab. Sums over the coarse part count 2^shift. Atoms are padded with zero rows to a multiple of
// kTileAtoms, queries to one of kTileQueries.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/bounds.hpp"
#include "common/team.hpp"
#include "headscan/pack.hpp"

namespace headscan::cuda {

inline constexpr std::size_t kSlab = 64;  // bytes of a row that go through shared memory at a time
inline constexpr std::size_t kStep = 32;  // bytes that one tensor-core instruction multiplies
inline constexpr std::size_t kAtomWarps = 2, kQueryWarps = 4;  // warps of a block of the pass, 64 x 64 scores each
inline constexpr std::size_t kTileAtoms = 64 * kAtomWarps, kTileQueries = 64 * kQueryWarps;

HEADSCAN_BOTH constexpr std::size_t rounded_to(std::size_t n, std::size_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

struct CodeLayout {
  std::size_t rows = 0, width = 0;  // atoms; axes
  std::size_t coarse = 0;           // axes in coarse steps
  std::size_t coarse_bytes = 0;     // padded
  std::size_t row_bytes = 0;        // padded
  int atom_shift = 0;               // a coarse step is 2^atom_shift fine ones, for atoms and queries alike
  double largest_norm = 0;          // of the atoms
  double rotation_error = 0;        // of a rotated query, relative to its length

  CodeLayout() = default;
  CodeLayout(const PackedLayout& packed, double error)
      : rows(packed.rows),
        width(packed.width),
        coarse(packed.segment_start(kCoarseSegments)),
        coarse_bytes(rounded_to(coarse, kStep)),
        row_bytes(rounded_to(coarse_bytes + width - coarse, kSlab)),
        atom_shift(packed.shift),
        largest_norm(packed.largest_norm),
        rotation_error(error) {}

  HEADSCAN_BOTH std::size_t padded_rows() const { return rounded_to(rows, kTileAtoms); }
  HEADSCAN_BOTH std::size_t padded_blocks() const { return padded_rows() / kBlockAtoms; }

  HEADSCAN_BOTH std::size_t blocks() const { return (rows + kBlockAtoms - 1) / kBlockAtoms; }
  HEADSCAN_BOTH int shift() const { return 2 * atom_shift; }
  HEADSCAN_BOTH std::size_t byte_of(std::size_t axis) const {
    return axis < coarse ? axis : axis - coarse + coarse_bytes;
  }
  // The axis whose code stands at `byte`; `width` or more in the padding.
  HEADSCAN_BOTH std::size_t axis_of(std::size_t byte) const {
    if (byte < coarse_bytes) return byte < coarse ? byte : width;
    return byte - coarse_bytes + coarse;
  }
};

// A query's codes q^ = scale * codes: a score of atom i is at most scale * (scale_i sum + error_i ratio) + slack.
struct QueryScale {
  float scale = 0, ratio = 0, slack = 0;
};

}  // namespace headscan::cuda
