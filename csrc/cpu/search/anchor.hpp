// The anchor of a panel: queries for which every atom has been scored, with an upper bound of each score kept in a
// byte. It answers its own round, and narrows down the rounds after it (move.hpp).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/search/coded_queries.hpp"
#include "cpu/search/rescore.hpp"
#include "cpu/support/large_buffer.hpp"

namespace headscan {

inline constexpr std::size_t kChunk = 64;  // queries whose floors are compared at once
inline constexpr std::size_t kLineBytes = 64;

// Several blocks a task, so that each worker knows which comes next.
inline std::size_t blocks_a_task(std::size_t blocks, const Pool& pool) {
  return std::clamp<std::size_t>(blocks / (pool.workers() * 16), 1, 16);
}

class Anchor {
 public:
  // panel_size: a multiple of kChunk.
  Anchor(const PackedAtoms& packed, std::size_t panel_size, const Int8Kernels& kernels);

  const Int8Kernels& kernels() const { return kernels_; }

  // The panel's queries become the anchor: scores every atom. Returns the multiply-adds that took.
  std::uint64_t set(const Panel& panel, const RotatedQueries& rotated, Pool& pool);

  // Names the atoms that can be a query's best, of the panel that `set` saw.
  void offer_candidates(const Panel& panel, Pool& pool, Rescorer& rescorer) const;

  const double* query(std::size_t q) const { return &queries_[q * packed_.width]; }
  const float* rotated(std::size_t q) const { return &rotated_[q * ld_]; }
  double norm(std::size_t q) const { return scales_[q].norm; }
  double fine_square(std::size_t q) const { return scales_[q].fine_square; }
  double step(std::size_t q) const { return scales_[q].step; }

  // An atom's score is at most its kept byte times step().
  const std::uint8_t* kept(std::size_t block, std::size_t q) const {
    return kept_.data() + (block * panel_size_ + q) * kBlockAtoms;
  }
  const std::uint8_t* maxima(std::size_t block) const { return &maxima_[block * panel_size_]; }  // (panel)

 private:
  struct Scale {
    double norm = 0, fine_square = 0;  // |u|, |u over the fine segments|^2
    double step = 0;                   // score that one unit of the kept byte stands for
  };
  using Atoms = std::vector<std::int64_t>;

  void set_query(const Panel& panel, const RotatedQueries& rotated, std::size_t query);
  void score_block(std::size_t block, bool more, std::size_t count);
  void find_seeds(const Panel& panel, std::size_t chunk, std::vector<Atoms>& seeds, std::uint8_t* floors) const;
  template <class Take>
  void visit(std::size_t chunk, std::size_t count, const std::uint8_t* floors, const Take& take) const;

  const PackedAtoms& packed_;
  const Int8Kernels& kernels_;
  std::size_t panel_size_, ld_;
  CodedQueries coded_;
  std::vector<double> queries_;  // (panel, width)
  std::vector<float> rotated_;   // (panel, ld)
  std::vector<Scale> scales_;
  LargeBuffer kept_;                  // (blocks, panel, 64)
  std::vector<std::uint8_t> maxima_;  // (blocks, panel): the largest of each row of kept_
};

}  // namespace headscan
