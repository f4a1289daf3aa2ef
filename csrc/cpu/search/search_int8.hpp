// Certified int8 search. An anchor round scores every atom and keeps an upper bound of each score in a byte; the
// rounds after it look only at atoms that the move of the query away from its anchor can have lifted past the best.
//
// With the anchor u and a query q = alpha u + delta, three bounds narrow the atoms down, each rigorous:
//   1. by angle: the largest <g, q> possible for a kept score of <g, u>, compared on block maxima alone;
//   2. alpha <g, u> + <g, delta> over the first segments of axes in int8 + |rest of g| |rest of delta|, segment by
//      segment for as long as any atom of a block still reaches;
//   3. the same over all axes.
// What reaches the best score known is rescored in float64: the answer is exact, ties go to the lowest index.
#pragma once

#include <vector>

#include "cpu/kernels/dense.hpp"
#include "cpu/kernels/int8.hpp"
#include "cpu/search/row_source.hpp"
#include "cpu/search/search.hpp"
#include "cpu/support/large_buffer.hpp"
#include "headscan/pack.hpp"

namespace headscan {

class SearchInt8 final : public Search {
 public:
  SearchInt8(const PackedAtoms& packed, const RowSource& rows, std::size_t panel_size);
  void argmax(const Panel& panel, Pool& pool, std::int64_t* best) override;
  SearchCounters counters() const override { return counters_; }

  // Queries a panel whose kept scores take at most the given bytes.
  static std::size_t panel_size(const PackedLayout& layout, std::size_t bytes);

 private:
  struct Candidate {
    std::uint32_t query;
    std::int64_t atom;
  };
  struct Worker {
    std::vector<Candidate> candidates;
    std::vector<std::uint32_t> counts;   // candidates a query, to stop lists that would grow with the dictionary
    std::vector<std::int32_t> running;   // (passing, 64) sums over the segments so far
    std::vector<std::uint32_t> passing;  // queries that a block still matters to
    std::vector<float> row;
    std::uint64_t multiply_adds = 0, rescored = 0;
  };
  struct Anchor {
    double norm = 0, fine_square = 0;  // |u|, |u over the fine segments|^2
    float step = 0;                    // score that one unit of the kept byte stands for
  };

  bool anchor_again(const Panel& panel) const;
  void rotate(const Panel& panel, Pool& pool);
  void set_anchor(const Panel& panel, std::size_t query);
  void set_move(const Panel& panel, std::size_t query, Worker& worker);
  std::uint8_t angle_floor(const Panel& panel, std::size_t query, double best) const;
  void anchor_pass(std::size_t count, Pool& pool);
  void score_block(std::size_t block, bool more, std::size_t count);
  void anchor_candidates(const Panel& panel, Pool& pool);
  void find_seeds(const Panel& panel, std::size_t chunk, std::vector<std::vector<std::int64_t>>& seeds);
  template <class Take>
  void visit(std::size_t chunk, std::size_t count, const std::uint8_t* floors, const Take& take);
  std::vector<std::uint32_t>& start_block(std::size_t block, std::size_t count, Worker& worker) const;
  void move_pass(const Panel& panel, std::size_t block, Worker& worker);
  void take_candidates(const Panel& panel, std::size_t query, std::size_t block, std::uint64_t mask, Worker& worker);
  void rescore(const Panel& panel, Pool& pool, std::int64_t* best);
  void remember(std::size_t query, const std::vector<std::pair<double, std::int64_t>>& scored);
  void fall_back(const Panel& panel, const std::vector<std::uint8_t>& needed, Pool& pool, std::int64_t* best);
  double best_of(const Panel& panel, std::size_t query, const std::vector<std::int64_t>& atoms, Worker& worker) const;
  double exact(const Panel& panel, std::size_t query, std::int64_t atom, Worker& worker) const;
  BlockBounds block_bounds(std::size_t block) const;
  const std::int8_t* codes(std::size_t query) const { return &codes_[query * code_bytes_]; }
  std::uint8_t* kept(std::size_t block, std::size_t query) {
    return kept_.data() + (block * panel_size_ + query) * kBlockAtoms;
  }

  const PackedAtoms& packed_;
  const RowSource& rows_;
  const DenseKernels& dense_;
  const Int8Kernels& int8_;
  std::size_t panel_size_, ld_, code_bytes_, candidate_limit_;
  double rotation_error_;
  std::vector<float> rotation_;           // (width, ld)
  std::vector<float> queries_, rotated_;  // (panel, ld)
  std::vector<float> anchors_rotated_;    // (panel, ld)
  std::vector<double> anchors_;           // (panel, width)
  std::vector<Anchor> anchor_;
  std::vector<QueryBounds> bounds_;
  std::vector<std::int8_t> codes_;                // (panel, code bytes)
  LargeBuffer kept_;                              // (blocks, panel, 64)
  std::vector<std::uint8_t> kept_maxima_;         // (blocks, panel)
  std::vector<std::uint8_t> floors_;              // (panel): kept bytes below this cannot reach the best
  std::vector<float> best_known_;                 // (panel): a lower bound of the round's best, rounded down
  std::vector<std::vector<std::int64_t>> pools_;  // the best atoms of earlier rounds, a query each
  std::vector<Worker> workers_;
  SearchCounters counters_;
  std::vector<double> move_costs_;  // of the rounds since the anchor, in full passes
};

}  // namespace headscan
