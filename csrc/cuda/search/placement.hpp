// Where a dictionary lies for one GPU: in its memory what fits, in pinned host memory the rest. Codes that do not fit
// are streamed in chunks; full-precision rows that do not are read over the bus, as float64 decides among few of
// them. Host code alone.
#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>

#include "cuda/search/layout.hpp"
#include "headscan/comp.hpp"

namespace headscan::cuda {

// Long enough to keep the bus and the GPU busy; the shorter, the fewer bounds a query (search_pass.hpp), the more
// queries a panel, and the fewer times all chunks are copied.
inline constexpr std::size_t kMostChunkRows = std::size_t{1} << 18U;

struct Placement {
  std::size_t chunk_rows = 0;  // a multiple of kTileAtoms
  bool codes_there = false;    // all codes are one chunk, in device memory
  bool rows_there = false;     // full-precision rows are in device memory too

  std::size_t chunks(std::size_t rows) const { return (rows + chunk_rows - 1) / chunk_rows; }
};

// The codes of a chunk, their scales and their errors, one after another.
inline std::size_t image_bytes(const CodeLayout& chunk) {
  return chunk.padded_rows() * (chunk.row_bytes + 2 * sizeof(float));
}

// What every placement takes: the rotation.
inline std::size_t least_bytes(const CodeLayout& layout) { return layout.width * layout.width * sizeof(float); }

inline CodeLayout with_rows(CodeLayout layout, std::size_t rows) {
  layout.rows = rows;
  return layout;
}

// The best placement in so many bytes of device memory. Throws where not even two tiles of codes fit.
inline Placement place(const CodeLayout& layout, std::size_t memory_bytes) {
  const std::size_t rows = layout.rows * layout.width * sizeof(float);
  const std::size_t left = memory_bytes - std::min(memory_bytes, least_bytes(layout));
  const std::size_t codes = image_bytes(layout), tile = image_bytes(with_rows(layout, kTileAtoms));
  if (codes <= left) return {layout.padded_rows(), true, rows <= left - codes};
  const std::size_t tiles = left / tile / 2;  // two chunks: one is searched while the next arrives
  if (tiles == 0) {
    throw std::invalid_argument("a dictionary of " + std::to_string(layout.width) +
                                " values an atom takes at least " +
                                std::to_string((least_bytes(layout) + 2 * tile) >> 10U) + " KiB of GPU memory, " +
                                std::to_string(memory_bytes >> 10U) + " KiB are left: use the CPU");
  }
  return {std::min(tiles * kTileAtoms, kMostChunkRows), false, false};
}

// Bytes of device memory a placement takes.
inline std::size_t device_bytes(const CodeLayout& layout, const Placement& placement) {
  const std::size_t rows = placement.rows_there ? layout.rows * layout.width * sizeof(float) : 0;
  const std::size_t chunk = image_bytes(with_rows(layout, placement.chunk_rows));
  return least_bytes(layout) + rows + (placement.codes_there ? chunk : 2 * chunk);
}

// Atoms first .. first + rows - 1 as a dictionary of their own, over the same memory.
inline PackedDictionary part_of(const PackedDictionary& whole, std::size_t first, std::size_t rows) {
  const std::size_t all = whole.packed.rows;
  if (first % kBlockAtoms != 0 || rows == 0 || first >= all || rows > all - first) {
    throw std::invalid_argument("a part of a dictionary starts at a multiple of " + std::to_string(kBlockAtoms) +
                                " and ends within its " + std::to_string(all) + " atoms, got " +
                                std::to_string(rows) + " from " + std::to_string(first) + " on");
  }
  PackedDictionary part = whole;
  part.packed.rows = rows;
  part.packed.codes += first / kBlockAtoms * whole.packed.block_bytes();
  part.packed.scale += first;
  part.packed.error += first;
  part.packed.beyond += first * (kSegments - 1);
  part.atoms = {whole.atoms.row(first), rows, whole.atoms.columns, whole.atoms.stride};
  part.files = {};
  return part;
}

}  // namespace headscan::cuda
