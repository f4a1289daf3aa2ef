// Plain search over the atoms as they are: a float32 pass that keeps one maximum a block of atoms, then float64
// over the blocks that its rounding-error bound cannot rule out.
#pragma once

#include <vector>

#include "cpu/kernels/dense.hpp"
#include "cpu/search/search.hpp"

namespace headscan {

class SearchF32 final : public Search {
 public:
  // Throws std::invalid_argument on NaN or infinity, naming the row.
  SearchF32(MatrixView<const float> atoms, const DenseKernels& kernels, Pool& pool);
  void argmax(const Panel& panel, Pool& pool, std::int64_t* best) override;
  SearchCounters counters() const override { return counters_; }

 private:
  static constexpr std::size_t kBlock = 64;  // atoms a maximum; 64 x 768 floats sit in half of a 512 KB L2

  std::int64_t pick(const Panel& panel, std::size_t query) const;
  void score_block(const Panel& panel, std::size_t query, std::size_t block, Best& best) const;

  MatrixView<const float> atoms_;
  const DenseKernels& kernels_;
  double largest_norm_ = 0;
  std::size_t blocks_;
  SearchCounters counters_;
  std::vector<float> queries_, maxima_;  // (count, padded width), (count, blocks)
};

}  // namespace headscan
