// All of svd_factored for one matrix: the steps of svd_steps.hpp, the sign rule, and the output.
#pragma once

#include "cuda/svd/svd_steps.hpp"

namespace headscan::cuda {

// Memory of one block of threads, for matrices of one shape.
struct SvdMemory {
  std::size_t left_rows, right_rows, rank;

  HEADSCAN_BOTH std::size_t small() const { return rank * rank; }
  HEADSCAN_BOTH std::size_t pair_doubles() const { return 2 * small(); }  // a and v, the part that may lie elsewhere
  HEADSCAN_BOTH std::size_t shared_doubles(std::size_t threads) const {
    return (kStageRows + 3) * rank + 2 * threads;
  }
  HEADSCAN_BOTH std::size_t longest() const { return left_rows > right_rows ? left_rows : right_rows; }
  HEADSCAN_BOTH std::size_t global_doubles() const {
    return 5 * small() + rank * (left_rows + right_rows + longest() + 1);
  }
};

template <class T>
struct SvdOutput {
  T *u, *s, *vh;  // (left rows, rank), (rank), (rank, right rows)
};

template <class Block>
HEADSCAN_DEVICE SvdShared lay_out(const Block& block, const SvdMemory& memory, double* pair, double* rest) {
  SvdShared shared;
  shared.a = pair;
  shared.v = pair + memory.small();
  shared.stage = rest;
  shared.lengths = rest + kStageRows * memory.rank;
  shared.signs = shared.lengths + memory.rank;
  shared.order = shared.signs + memory.rank;
  shared.slots = shared.order + memory.rank;
  shared.extremes = shared.slots + block.size();
  return shared;
}

// shared.signs: +1 or -1 a column of u, making its largest-magnitude entry positive (ties: the first).
// `extreme` is that entry among the rows of this thread, `row` its row.
template <class Block>
HEADSCAN_DEVICE void find_signs(const Block& block, const SvdShared& shared, std::size_t rank, double extreme,
                                std::size_t row) {
  const std::size_t groups = block.size() / rank, j = block.rank() % rank, group = block.rank() / rank;
  shared.extremes[block.rank()] = extreme;
  shared.slots[block.rank()] = static_cast<double>(row);
  block.sync();
  if (group == 0) {
    for (std::size_t g = 1; g < groups; ++g) {
      const double other = shared.extremes[g * rank + j];
      const auto other_row = static_cast<std::size_t>(shared.slots[g * rank + j]);
      if (fabs(other) > fabs(extreme) || (fabs(other) == fabs(extreme) && other_row < row)) {
        extreme = other;
        row = other_row;
      }
    }
    shared.signs[j] = extreme < 0 ? -1.0 : 1.0;
  }
  block.sync();
}

template <class Block, class T>
HEADSCAN_DEVICE void write_vectors(const Block& block, const SvdShared& shared, const SvdMemory& memory,
                                   const Factor<T>& left, const Factor<T>& right, const Basis& left_basis,
                                   const Basis& right_basis, const double* units, const SvdOutput<T>& out) {
  const std::size_t rank = memory.rank;
  mix_columns(block, shared, left_basis, rank, units, [](std::size_t j) { return j; });
  double extreme = 0;
  std::size_t extreme_row = left.rows;
  expand(block, shared, left, left_basis, rank, [&](std::size_t i, std::size_t j, double value) {
    out.u[i * rank + j] = static_cast<T>(value);
    if (fabs(value) > fabs(extreme)) {
      extreme = value;
      extreme_row = i;
    }
  });
  find_signs(block, shared, rank, extreme, extreme_row);
  share(block, left.rows * rank, [&](std::size_t at) {
    if (shared.signs[at % rank] < 0) out.u[at] = -out.u[at];
  });
  mix_columns(block, shared, right_basis, rank, shared.v,
              [&](std::size_t j) { return static_cast<std::size_t>(shared.order[j]); });
  expand(block, shared, right, right_basis, rank, [&](std::size_t i, std::size_t j, double value) {
    out.vh[j * right.rows + i] = static_cast<T>(shared.signs[j] * value);
  });
}

// left (left rows, rank), right (rank, right rows), both contiguous. `global` has memory.global_doubles().
template <class Block, class T>
HEADSCAN_DEVICE void svd_matrix(const Block& block, const SvdShared& shared, const SvdMemory& memory, double* global,
                                const T* left_data, const T* right_data, const SvdOutput<T>& out) {
  constexpr bool kSingle = sizeof(T) == sizeof(float);
  const std::size_t rank = memory.rank, small = memory.small();
  const Factor<T> left{left_data, memory.left_rows, rank, 1},
      right{right_data, memory.right_rows, 1, memory.right_rows};
  double *units = global + 4 * small, *vectors = units + small;
  double *t = vectors + rank * (left.rows + right.rows), *tau = t + rank * memory.longest();
  Basis left_basis{global, global + small, vectors};
  Basis right_basis{global + 2 * small, global + 3 * small, vectors + rank * left.rows};
  orthonormal_basis(block, shared, left, rank, kSingle, t, tau, left_basis);
  orthonormal_basis(block, shared, right, rank, kSingle, t, tau, right_basis);
  if (left_basis.unit == INFINITY || right_basis.unit == INFINITY) {
    const T nothing = static_cast<T>(NAN);
    share(block, left.rows * rank, [&](std::size_t at) { out.u[at] = nothing; });
    share(block, right.rows * rank, [&](std::size_t at) { out.vh[at] = nothing; });
    share(block, rank, [&](std::size_t at) { out.s[at] = nothing; });
    return;
  }
  const double tolerance = kSingle ? 1e-10 : 0x1p-52 * std::sqrt(static_cast<double>(rank));
  core_svd(block, shared, left_basis, right_basis, rank, tolerance, units);
  const double scale = left_basis.unit * right_basis.unit;
  const bool normal = scale > 2.2250738585072014e-308 && scale < INFINITY;  // else apart they lose nothing
  share(block, rank, [&](std::size_t j) {
    const double sigma = shared.lengths[static_cast<std::size_t>(shared.order[j])];
    out.s[j] = static_cast<T>(normal ? scale * sigma : left_basis.unit * sigma * right_basis.unit);
  });
  write_vectors(block, shared, memory, left, right, left_basis, right_basis, units, out);
}

}  // namespace headscan::cuda
