// Rounds between anchors look only at atoms that the move of the query away from its anchor can have lifted past the
// best. With the anchor u and a query q = alpha u + delta, bounds narrow the atoms down, each rigorous:
//   1. by angle: the largest <g, q> possible for a kept score of <g, u>, compared on block maxima alone;
//   2. alpha <g, u> + <g, delta> over the first segments of axes in int8 + |rest of g| |rest of delta|, segment by
//      segment for as long as any atom of a block still reaches;
//   3. the same over all axes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu/search/anchor.hpp"
#include "cpu/search/block_pairs.hpp"
#include "cpu/search/moved_queries.hpp"
#include "cpu/search/rescore.hpp"

namespace headscan {

class Move {
 public:
  Move(const PackedAtoms& packed, const Anchor& anchor, std::size_t panel_size);

  // Names the atoms that can be a query's best.
  Work offer_candidates(const Panel& panel, const RotatedQueries& rotated, Pool& pool, Rescorer& rescorer);

 private:
  struct Worker {
    Worker(const PackedAtoms& packed, const Anchor& anchor) : pairs(packed, anchor) {}
    std::vector<float> delta;
    std::vector<std::int32_t> running;         // (passing, 64) sums over the segments so far
    std::vector<std::uint32_t> passing, next;  // queries that this block and the one after it still matter to
    BlockPairs pairs;
    Work work;
  };

  void set_query(const Panel& panel, const float* rotated, std::size_t query, double best, Worker& worker);
  std::uint8_t angle_floor(const Panel& panel, std::size_t query, double best) const;
  void look_ahead(std::size_t block, std::size_t count, Worker& worker) const;
  void search_segment(std::size_t block, std::size_t segment, Worker& worker);
  void search_blocks(const Panel& panel, std::size_t first, std::size_t end, std::size_t worker, Rescorer& rescorer);

  const PackedAtoms& packed_;
  const Anchor& anchor_;
  const Int8Kernels& kernels_;
  MovedQueries moved_;
  std::vector<std::uint8_t> floors_;  // (panel): kept bytes below this cannot reach the best
  std::vector<Worker> workers_;
};

}  // namespace headscan
