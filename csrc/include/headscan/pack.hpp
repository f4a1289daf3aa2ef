// Dictionaries packed for the certified int8 search: rotated into their principal axes, quantised, with rigorous
// error norms. Packed once, kept on disk, memory-mapped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "headscan/views.hpp"

namespace headscan {

inline constexpr std::size_t kBlockAtoms = 64;

// Layout of a packed dictionary of `rows` atoms of `width` values.
//
// An atom g becomes g' = g * rotation, whose axes go into four segments, strongest first. Values are quantised to
// int8, those of the first two segments in steps of scale * 2^shift, the others in steps of scale. A block holds 64
// atoms, four values of each at a time: codes (blocks, steps, 64, 4), stored as value + 128. Rows that fill the last
// block are zero.
inline constexpr std::size_t kSegments = 4;
inline constexpr std::size_t kCoarseSegments = 2;

struct PackedLayout {
  std::size_t rows = 0, width = 0;
  int shift = 0;
  double largest_norm = 0;  // of the atoms

  // The first axis of segment s; segment kSegments ends at the width. About 1/12, 1/6 and 1/3 of it, in fours.
  std::size_t segment_start(std::size_t s) const {
    constexpr std::size_t kShares[] = {0, 12, 6, 3};
    if (s == kSegments) return width;
    return s == 0 ? 0 : (width / kShares[s] + 3) / 4 * 4 < width ? (width / kShares[s] + 3) / 4 * 4 : width;
  }
  std::size_t segment_steps(std::size_t s) const { return (segment_start(s + 1) - segment_start(s) + 3) / 4; }
  std::size_t blocks() const { return (rows + kBlockAtoms - 1) / kBlockAtoms; }
  std::size_t steps() const { return (width + 3) / 4; }  // segments start on multiples of four
  std::size_t block_bytes() const { return steps() * kBlockAtoms * 4; }

  // Whether int32 holds every sum of products of codes: 255 * 127 * (4^shift * coarse axes + the others) < 2^31.
  bool sums_fit() const {
    const std::size_t coarse = segment_start(kCoarseSegments);
    return (coarse << (2 * shift)) + (steps() * 4 - coarse) <= 0x7fffffffU / (255 * 127);
  }
};

// Bounds of one atom against its packed form: |g' - codes| <= error, |g' from segment s + 1 on| <= beyond[s].
template <class Byte, class Float>
struct PackedViews : PackedLayout {
  const float* rotation = nullptr;  // (width, width), orthonormal
  Byte* codes = nullptr;            // (blocks, steps, 64, 4)
  Float* scale = nullptr;           // (blocks * 64)
  Float* error = nullptr;           // (blocks * 64)
  Float* beyond = nullptr;          // (blocks, kSegments - 1, 64)
};
using PackedAtoms = PackedViews<const std::uint8_t, const float>;
using PackedOutput = PackedViews<std::uint8_t, float>;

// Fills codes, scale, error and beyond, and returns the shift and the largest norm, for layout and rotation as
// given in `packed`. The shift is the given one, 0 to 3, or that with the smallest error on a sample of the atoms:
// shards of whole blocks packed with the dictionary's rotation and shift are the dictionary packed as a whole.
// Throws std::invalid_argument on NaN, infinity, a rotation that is not orthonormal another shift, and rows too long
// for the sums to fit int32.
inline constexpr int kBestShift = -1, kLargestShift = 3;
// `interrupt` is called on the calling thread every now and then, and may throw to stop early.
PackedLayout pack(MatrixView<const float> atoms, const PackedOutput& packed, int threads = 0, int shift = kBestShift,
                  const std::function<void()>& interrupt = {});

// Throws std::invalid_argument where a layout, read from a file say, is none that pack() makes.
void check_layout(const PackedLayout& layout);

}  // namespace headscan
