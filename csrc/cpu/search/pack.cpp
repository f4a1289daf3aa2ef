#include "headscan/pack.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/bounds.hpp"
#include "cpu/kernels/kernels.hpp"
#include "cpu/search/checked_norm.hpp"
#include "cpu/search/quantise.hpp"
#include "cpu/support/parallel.hpp"

namespace headscan {
namespace {

constexpr std::size_t kFloatLane = 16;

class Packer {
 public:
  Packer(MatrixView<const float> atoms, const PackedOutput& packed, const DenseKernels& kernels)
      : atoms_(atoms),
        out_(packed),
        kernels_(kernels),
        ld_((atoms.columns + kFloatLane - 1) / kFloatLane * kFloatLane),
        rotation_(atoms.columns * ld_, 0.0F) {
    for (std::size_t i = 0; i < atoms.columns; ++i) {
      std::copy_n(packed.rotation + i * atoms.columns, atoms.columns, &rotation_[i * ld_]);
    }
  }

  // (count, ld) rotated rows from `first` on.
  void rotate(std::size_t first, std::size_t count, std::vector<float>& rotated) const {
    rotated.resize(kBlockAtoms * ld_);
    kernels_.multiply_f32(atoms_.row(first), atoms_.stride, rotation_.data(), count, atoms_.columns, ld_,
                          rotated.data());
  }

  // The shift that leaves the smallest error on up to a thousand rows spread over the dictionary.
  int best_shift() const {
    const std::size_t stride = std::max<std::size_t>(1, atoms_.rows / 1024);
    std::vector<float> rotated;
    std::vector<std::int8_t> codes(out_.steps() * 4);
    double errors[kLargestShift + 1] = {};
    for (std::size_t row = 0; row < atoms_.rows; row += stride) {
      rotate(row, 1, rotated);
      for (int shift = 0; shift <= kLargestShift; ++shift) {
        errors[shift] += quantise(rotated.data(), out_, shift, codes.data()).error;
      }
    }
    PackedLayout layout = out_;
    int best = 0;
    for (layout.shift = 1; layout.shift <= kLargestShift && layout.sums_fit(); ++layout.shift) {
      if (errors[layout.shift] < errors[best]) best = layout.shift;
    }
    return best;
  }

  // Packs one block and returns its longest norm.
  double pack_block(std::size_t block, int shift) const {
    const std::size_t first = block * kBlockAtoms, steps = out_.steps();
    const std::size_t count = std::min(kBlockAtoms, atoms_.rows - first);
    std::vector<float> rotated;
    rotate(first, count, rotated);
    std::vector<std::int8_t> codes(steps * 4);
    std::uint8_t* to = out_.codes + block * out_.block_bytes();
    double longest = 0;
    for (std::size_t i = 0; i < kBlockAtoms; ++i) {
      Quantised row;
      double norm = 0;
      if (i < count) {
        norm = checked_norm(atoms_.row(first + i), atoms_.columns, first + i);
        row = quantise(&rotated[i * ld_], out_, shift, codes.data());
      } else {
        std::fill(codes.begin(), codes.end(), std::int8_t{0});
      }
      longest = std::max(longest, norm);
      const double slack = rotation_error(atoms_.columns) * norm;
      out_.scale[first + i] = row.scale;
      out_.error[first + i] = rounded_up(row.error + slack);
      for (std::size_t s = 0; s + 1 < kSegments; ++s) {
        out_.beyond[(block * (kSegments - 1) + s) * kBlockAtoms + i] = rounded_up(row.beyond[s] + slack);
      }
      for (std::size_t step = 0; step < steps; ++step) {
        for (std::size_t j = 0; j < 4; ++j) {
          to[(step * kBlockAtoms + i) * 4 + j] = static_cast<std::uint8_t>(codes[step * 4 + j] + 128);
        }
      }
    }
    return longest;
  }

 private:
  MatrixView<const float> atoms_;
  PackedOutput out_;
  const DenseKernels& kernels_;
  std::size_t ld_;
  std::vector<float> rotation_;  // (width, ld)
};

// The distance of R R^T from the identity that rotation_error allows for: a rotation rounded to float32 has half.
void check_rotation(const float* rotation, std::size_t width, Pool& pool) {
  std::vector<double> squares(width, 0.0);
  pool.run(width, [&](std::size_t i, std::size_t) {
    for (std::size_t j = 0; j <= i; ++j) {
      double sum = i == j ? -1.0 : 0.0;
      for (std::size_t p = 0; p < width; ++p) {
        sum += static_cast<double>(rotation[i * width + p]) * static_cast<double>(rotation[j * width + p]);
      }
      squares[i] += (i == j ? 1.0 : 2.0) * sum * sum;
    }
  });
  const double distance = std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
  if (!(distance <= 2 * 0x1p-24 * std::sqrt(static_cast<double>(width)))) {
    throw std::invalid_argument("the rotation must be orthonormal to float32 rounding, its distance is " +
                                std::to_string(distance));
  }
}

}  // namespace

void check_layout(const PackedLayout& layout) {
  if (layout.shift < 0 || layout.shift > kLargestShift) {
    throw std::invalid_argument("the shift must be from 0 to " + std::to_string(kLargestShift) + ", got " +
                                std::to_string(layout.shift));
  }
  if (!layout.sums_fit()) {
    throw std::invalid_argument("rows of " + std::to_string(layout.width) + " values with shift " +
                                std::to_string(layout.shift) +
                                " are too long: int32 would not hold the sums of their products");
  }
  if (!(layout.largest_norm >= 0 && layout.largest_norm < 1e16)) {
    throw std::invalid_argument("the largest norm of the packed atoms must be finite and below 1e16, got " +
                                std::to_string(layout.largest_norm));
  }
}

PackedLayout pack(MatrixView<const float> atoms, const PackedOutput& packed, int threads, int shift,
                  const std::function<void()>& interrupt) {
  if (packed.rows != atoms.rows || packed.width != atoms.columns || packed.width == 0) {
    throw std::invalid_argument("the packed layout does not fit the atoms");
  }
  PackedLayout layout = packed;
  layout.shift = shift == kBestShift ? 0 : shift;
  check_layout(layout);
  Pool pool(threads, interrupt);
  check_rotation(packed.rotation, packed.width, pool);
  const Packer packer(atoms, packed, active_kernels().dense);
  layout.shift = shift == kBestShift ? packer.best_shift() : shift;
  std::vector<double> longest(pool.workers(), 0.0);
  pool.run(packed.blocks(), [&](std::size_t block, std::size_t worker) {
    longest[worker] = std::max(longest[worker], packer.pack_block(block, layout.shift));
  });
  layout.largest_norm = *std::max_element(longest.begin(), longest.end()) * (1 + 1e-9);
  return layout;
}

}  // namespace headscan
