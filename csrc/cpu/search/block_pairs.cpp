#include "cpu/search/block_pairs.hpp"

namespace headscan {
namespace {

// The bound of one pair takes as long as this many of 64 at once (kFewAtoms of move.cpp has the machine).
constexpr std::uint64_t kPairBounds = 16;

}  // namespace

BlockPairs::BlockPairs(const PackedAtoms& packed, const Anchor& anchor)
    : packed_(packed), anchor_(anchor), kernels_(anchor.kernels()) {
  for (std::size_t part = 0; part < kParts; ++part) {
    parts_.emplace_back(packed, part);
    rows_[part].resize(kBlockAtoms * parts_[part].row_bytes);
  }
}

void BlockPairs::start(std::size_t block) {
  block_ = block;
  left_.clear();
}

void BlockPairs::narrow(const MovedQueries& moved) {
  for (std::size_t part = 0; part < kParts && !left_.empty(); ++part) narrow(part, moved);
}

void BlockPairs::narrow(std::size_t part, const MovedQueries& moved) {
  const auto [last_segment, start, end, row_bytes] = parts_[part];
  kernels_.by_atom(block_codes(packed_, block_) + start * kBlockAtoms, (end - start + 3) / 4, row_bytes,
                   rows_[part].data());
  std::swap(before_, after_);
  after_.clear();
  const std::int32_t* before = part == 0 ? nullptr : before_.data();
  std::size_t count = 0;
  for (const Passing passing : left_) {
    std::int32_t sums[kBlockAtoms];
    kernels_.dot_rows(rows_[part].data(), row_bytes, moved.part_codes(part, passing.query), passing.atoms, sums);
    const std::uint64_t atoms = reaching(part, passing, moved.part_bounds(part, passing.query), sums, before);
    if (atoms != 0) left_[count++] = {passing.query, atoms};
  }
  left_.resize(count);
}

// Those of a query's atoms whose bounds reach its floor; their sums go into after_.
std::uint64_t BlockPairs::reaching(std::size_t part, const Passing& passing, const QueryBounds& query,
                                   const std::int32_t* sums, const std::int32_t*& before) {
  const BlockBounds block = block_bounds(packed_, block_, parts_[part].last_segment);
  const std::uint8_t* kept = anchor_.kept(block_, passing.query);
  std::uint64_t atoms = 0, bounds = 0;
  for_each_bit(passing.atoms, [&](std::size_t i) {
    const std::int32_t sum = (sums[i] + query.offset) * (1 << query.shift) + (part == 0 ? 0 : *before++);
    const float bound = static_cast<float>(sum) * (block.scale[i] * query.scale) +
                        (block.error[i] * query.norm + query.slack) + static_cast<float>(kept[i]) * query.kept +
                        block.beyond[i] * query.beyond;
    ++bounds;
    if (!(bound >= query.floor)) return;
    atoms |= std::uint64_t{1} << i;
    after_.push_back(sum);
  });
  work_.multiply_adds += bounds * parts_[part].row_bytes;
  work_.bounds += bounds * kPairBounds;
  return atoms;
}

}  // namespace headscan
