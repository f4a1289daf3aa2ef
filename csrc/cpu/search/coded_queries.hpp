// The queries of a panel as the int8 kernels take them: rotated into the dictionary's axes, then quantised.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/kernels/dense.hpp"
#include "cpu/kernels/int8.hpp"
#include "cpu/search/quantise.hpp"
#include "cpu/search/search.hpp"
#include "headscan/pack.hpp"

namespace headscan {

class RotatedQueries {
 public:
  RotatedQueries(const PackedAtoms& packed, std::size_t panel_size);

  void rotate(const Panel& panel, Pool& pool);
  const float* row(std::size_t query) const { return &rotated_[query * ld_]; }  // (ld), zero past the width
  std::size_t ld() const { return ld_; }

 private:
  const DenseKernels& kernels_;
  std::size_t width_, ld_;
  std::vector<float> rotation_;           // (width, ld)
  std::vector<float> queries_, rotated_;  // (panel, ld)
};

// Codes of one pass over the dictionary, and what bounds the scores made with them.
class CodedQueries {
 public:
  CodedQueries(const PackedAtoms& packed, std::size_t panel_size)
      : layout_(packed), code_bytes_(packed.steps() * 4), codes_(panel_size * code_bytes_), bounds_(panel_size) {}

  // Quantises a rotated vector into row `query` and sets scale, norms and offsets of its bounds; `unit` is what the
  // bounds are measured in.
  Quantised set(std::size_t query, const float* rotated, double unit);

  const std::int8_t* codes(std::size_t query) const { return &codes_[query * code_bytes_]; }
  QueryBounds& bounds(std::size_t query) { return bounds_[query]; }
  const QueryBounds& bounds(std::size_t query) const { return bounds_[query]; }
  std::size_t code_bytes() const { return code_bytes_; }

 private:
  PackedLayout layout_;
  std::size_t code_bytes_;
  std::vector<std::int8_t> codes_;  // (panel, code bytes)
  std::vector<QueryBounds> bounds_;
};

inline BlockBounds block_bounds(const PackedAtoms& packed, std::size_t block) {
  const std::size_t first = block * kBlockAtoms;
  return {packed.scale + first, packed.error + first, packed.beyond + first * (kSegments - 1)};
}

inline const std::uint8_t* block_codes(const PackedAtoms& packed, std::size_t block) {
  return packed.codes + block * packed.block_bytes();
}

template <class Visit>
void for_each_bit(std::uint64_t mask, const Visit& visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<std::size_t>(__builtin_ctzll(mask)));
}

}  // namespace headscan
