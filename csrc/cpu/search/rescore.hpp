// The end of every round: float64 decides among the atoms that the bounds let through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/kernels/dense.hpp"
#include "cpu/search/row_source.hpp"
#include "cpu/search/search.hpp"

namespace headscan {

inline constexpr std::size_t kKnownAtoms = 16;  // atoms remembered a query, to know a good score at once

class Rescorer {
 public:
  Rescorer(std::size_t atoms, std::size_t width, const RowSource& rows, std::size_t panel_size,
           const DenseKernels& kernels);

  // A new round; the first one forgets the atoms of the panel before.
  void begin(const Panel& panel, std::size_t workers);

  // The highest score among some atoms, or among the best of earlier rounds; minus infinity where none is left.
  double best_of(const Panel& panel, std::size_t query, const std::vector<std::int64_t>& atoms, std::size_t worker);
  double best_known(const Panel& panel, std::size_t query, std::size_t worker);

  // The atoms of a block whose bits are set may be the query's best. May be called from all workers at once.
  void offer(const Panel& panel, std::size_t query, std::size_t block, std::uint64_t mask, std::size_t worker);

  // A query that bounds are of no use for: decide() scans plainly.
  void give_up(std::size_t query) { workers_[0].counts[query] = static_cast<std::uint32_t>(candidate_limit_ + 1); }

  // best[q] = the best of the atoms offered, or by a plain scan where they are too many or none.
  void decide(const Panel& panel, Pool& pool, std::int64_t* best);

  std::uint64_t rescored() const { return rescored_; }
  std::uint64_t fallbacks() const { return fallbacks_; }

 private:
  struct Candidate {
    std::uint32_t query;
    std::int64_t atom;
  };
  struct Worker {
    std::vector<Candidate> candidates;
    std::vector<std::uint32_t> counts;  // candidates a query, to stop lists that would grow with the dictionary
    std::vector<float> row;
    std::uint64_t rescored = 0;
  };

  double exact(const Panel& panel, std::size_t query, std::int64_t atom, std::size_t worker);
  void remember(std::size_t query, const std::vector<std::pair<double, std::int64_t>>& scored);
  void fall_back(const Panel& panel, const std::vector<std::uint8_t>& needed, Pool& pool, std::int64_t* best);

  std::size_t atoms_, width_, candidate_limit_;
  const RowSource& rows_;
  const DenseKernels& kernels_;
  std::vector<std::vector<std::int64_t>> known_;  // the best atoms of earlier rounds, a query each
  std::vector<Worker> workers_;
  std::uint64_t rescored_ = 0, fallbacks_ = 0;
};

}  // namespace headscan
