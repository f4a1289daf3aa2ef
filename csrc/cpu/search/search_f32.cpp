#include "cpu/search/search_f32.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/exact.hpp"
#include "cpu/search/checked_norm.hpp"

namespace headscan {
namespace {

constexpr std::size_t kFloatLane = 16;

}  // namespace

SearchF32::SearchF32(MatrixView<const float> atoms, const DenseKernels& kernels, Pool& pool)
    : atoms_(atoms), kernels_(kernels), blocks_((atoms.rows + kBlock - 1) / kBlock) {
  std::vector<double> largest(pool.workers(), 0.0);
  pool.run(blocks_, [&](std::size_t block, std::size_t worker) {
    const std::size_t end = std::min(atoms_.rows, (block + 1) * kBlock);
    for (std::size_t i = block * kBlock; i < end; ++i) {
      largest[worker] = std::max(largest[worker], checked_norm(atoms_.row(i), atoms_.columns, i));
    }
  });
  largest_norm_ = *std::max_element(largest.begin(), largest.end());
}

void SearchF32::argmax(const Panel& panel, Pool& pool, std::int64_t* best) {
  const std::size_t count = panel.queries.rows, width = atoms_.columns;
  const std::size_t stride = (width + kFloatLane - 1) / kFloatLane * kFloatLane;
  queries_.assign(count * stride, 0.0F);
  maxima_.resize(count * blocks_);
  for (std::size_t q = 0; q < count; ++q) {
    for (std::size_t i = 0; i < width; ++i) queries_[q * stride + i] = static_cast<float>(panel.queries.row(q)[i]);
  }
  pool.run(blocks_, [&](std::size_t block, std::size_t) {
    const std::size_t first = block * kBlock;
    kernels_.block_maxima_f32(queries_.data(), count, stride, atoms_.row(first),
                              std::min(kBlock, atoms_.rows - first), atoms_.stride, width, &maxima_[block], blocks_);
  });
  counters_.multiply_adds += count * atoms_.rows * width;
  pool.run(count, [&](std::size_t query, std::size_t) { best[query] = pick(panel, query); });
}

void SearchF32::score_block(const Panel& panel, std::size_t query, std::size_t block, Best& best) const {
  const std::size_t end = std::min(atoms_.rows, (block + 1) * kBlock);
  for (std::size_t i = block * kBlock; i < end; ++i) {
    const auto atom = static_cast<std::int64_t>(i);
    if (panel.has_picked(query, atom)) continue;
    best.offer(kernels_.exact_dot(atoms_.row(i), panel.queries.row(query), atoms_.columns), atom);
  }
}

std::int64_t SearchF32::pick(const Panel& panel, std::size_t query) const {
  const double* q = panel.queries.row(query);
  // Rounding q and summing width products in float32, in any order: (width + 32) ulps of |g| |q|, generously.
  const double ulps = static_cast<double>(atoms_.columns) + 32;
  const double slack = ulps * 0x1p-24 * 1.01 * largest_norm_ * std::sqrt(dot(q, q, atoms_.columns)) +
                       ulps * static_cast<double>(std::numeric_limits<float>::min());
  const float* maxima = &maxima_[query * blocks_];
  const auto top = static_cast<std::size_t>(std::max_element(maxima, maxima + blocks_) - maxima);
  Best best;
  score_block(panel, query, top, best);
  for (std::size_t block = 0; block < blocks_; ++block) {
    if (block == top) continue;
    if (best.index < 0 || static_cast<double>(maxima[block]) + slack >= best.score) {
      score_block(panel, query, block, best);
    }
  }
  return best.index;
}

}  // namespace headscan
