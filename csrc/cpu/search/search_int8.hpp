// Certified int8 search. An anchor round scores every atom and keeps an upper bound of each score (anchor.hpp); the
// rounds after it look only at atoms that can have overtaken the best since (move.hpp). What reaches the best score
// known is rescored in float64 (rescore.hpp): the answer is exact, ties go to the lowest index.
#pragma once

#include <vector>

#include "cpu/kernels/kernels.hpp"
#include "cpu/search/anchor.hpp"
#include "cpu/search/coded_queries.hpp"
#include "cpu/search/move.hpp"
#include "cpu/search/rescore.hpp"
#include "cpu/search/search.hpp"
#include "headscan/pack.hpp"

namespace headscan {

class SearchInt8 final : public Search {
 public:
  SearchInt8(const PackedAtoms& packed, const RowSource& rows, std::size_t panel_size, const Kernels& kernels);
  void argmax(const Panel& panel, Pool& pool, std::int64_t* best) override;
  SearchCounters counters() const override;

  // Queries a panel whose kept scores take at most the given bytes.
  static std::size_t panel_size(const PackedLayout& layout, std::size_t bytes);

 private:
  bool anchor_again(const Panel& panel) const;

  const PackedAtoms& packed_;
  RotatedQueries rotated_;
  Rescorer rescorer_;
  Anchor anchor_;
  Move move_;
  std::uint64_t multiply_adds_ = 0;
  std::vector<double> move_costs_;  // of the rounds since the anchor, in full passes
};

}  // namespace headscan
