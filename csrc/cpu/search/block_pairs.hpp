// The few atoms of a block that may still be a query's best, one by one, narrowed down by ever more of their axes.
// Where most atoms of a block are out, this beats scoring all 64.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "cpu/search/anchor.hpp"
#include "cpu/search/moved_queries.hpp"

namespace headscan {

// A query and the atoms of a block, bit by bit, that may be its best.
struct Passing {
  std::uint32_t query;
  std::uint64_t atoms;
};

// What a search took: multiply-adds, and bounds compared, of an atom each.
struct Work {
  std::uint64_t multiply_adds = 0, bounds = 0;
  Work& operator+=(const Work& other) {
    multiply_adds += other.multiply_adds;
    bounds += other.bounds;
    return *this;
  }
};

class BlockPairs {
 public:
  BlockPairs(const PackedAtoms& packed, const Anchor& anchor);

  void start(std::size_t block);
  void add(const Passing& passing) { left_.push_back(passing); }

  // Drops the atoms whose bounds, over ever more parts of the moved queries, show that they cannot win.
  void narrow(const MovedQueries& moved);

  const std::vector<Passing>& left() const { return left_; }
  Work take_work() { return std::exchange(work_, {}); }

 private:
  void narrow(std::size_t part, const MovedQueries& moved);
  std::uint64_t reaching(std::size_t part, const Passing& passing, const QueryBounds& query, const std::int32_t* sums,
                         const std::int32_t*& before);

  const PackedAtoms& packed_;
  const Anchor& anchor_;
  const Int8Kernels& kernels_;
  std::size_t block_ = 0;
  std::vector<Part> parts_;
  std::vector<std::uint8_t> rows_[kParts];  // (64, row_bytes): the block's codes, atom by atom
  std::vector<Passing> left_;
  std::vector<std::int32_t> before_,
      after_;  // sums of the atoms left, over the parts before and after the one at work
  Work work_;
};

}  // namespace headscan
