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
  RotatedQueries(const PackedAtoms& packed, std::size_t panel_size, const DenseKernels& kernels);

  void rotate(const Panel& panel, Pool& pool);
  const float* row(std::size_t query) const { return &rotated_[query * ld_]; }  // (ld), zero past the width
  std::size_t ld() const { return ld_; }

 private:
  const DenseKernels& kernels_;
  std::size_t width_, ld_;
  std::vector<float> rotation_;           // (width, ld)
  std::vector<float> queries_, rotated_;  // (panel, ld)
};

// A bound's scale, and how far codes of a query are from what they stand for.
struct Coded {
  Quantised quantised;
  std::int32_t offset[kSegments];  // -128 * sum of the codes of each segment
};

// codes (steps * 4), zero past the width, = a rotated vector quantised.
Coded quantise_query(const float* rotated, const PackedLayout& layout, std::int8_t* codes);

// Codes of whole queries and what bounds their scores over all segments.
class CodedQueries {
 public:
  CodedQueries(const PackedAtoms& packed, std::size_t panel_size)
      : layout_(packed), code_bytes_(packed.steps() * 4), codes_(panel_size * code_bytes_), bounds_(panel_size) {}

  // Quantises a rotated vector into row `query` and sets all of its bounds but the slack; `unit` is what they are
  // measured in. Returns the distance to the codes.
  double set(std::size_t query, const float* rotated, double unit);

  const std::int8_t* codes(std::size_t query) const { return &codes_[query * code_bytes_]; }
  QueryBounds& bounds(std::size_t query) { return bounds_[query]; }

 private:
  PackedLayout layout_;
  std::size_t code_bytes_;
  std::vector<std::int8_t> codes_;  // (panel, code bytes)
  std::vector<QueryBounds> bounds_;
};

// Bounds of a block's scores over the segments up to `last`.
inline BlockBounds block_bounds(const PackedAtoms& packed, std::size_t block, std::size_t last = kSegments - 1) {
  const std::size_t first = block * kBlockAtoms;
  const float* error = packed.error + first;  // nothing lies beyond the last segment: any finite values, counted 0
  return {packed.scale + first, error,
          last + 1 < kSegments ? packed.beyond + first * (kSegments - 1) + last * kBlockAtoms : error};
}

inline const std::uint8_t* block_codes(const PackedAtoms& packed, std::size_t block) {
  return packed.codes + block * packed.block_bytes();
}

template <class Visit>
void for_each_bit(std::uint64_t mask, const Visit& visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<std::size_t>(__builtin_ctzll(mask)));
}

}  // namespace headscan
