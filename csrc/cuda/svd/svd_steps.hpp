// svd_factored for one matrix and one block of threads: left = B1 C1, right^T = B2 C2 with orthonormal B, the SVD of
// the small core C1 C2^T = U S V^T by one-sided Jacobi, then u = B1 U and v = B2 V. All float64 between input and
// output.
//
// For float32 a basis is source * inverse of the Cholesky factor where the condition number is below 1e3 (orthogonal
// to 1e-10 then, cpu/svd/factor.hpp); Householder QR makes it in all other cases.
#pragma once

#include <cmath>

#include "cuda/svd/block_matrix.hpp"

namespace headscan::cuda {

// A factor (rows, rank) as the caller holds it.
template <class T>
struct Factor {
  const T* data;
  std::size_t rows, row_stride, column_stride;

  HEADSCAN_DEVICE double at(std::size_t i, std::size_t j) const {
    return static_cast<double>(data[i * row_stride + j * column_stride]);
  }
};

// Factor = unit * (source map) triangle: the source is the factor over its unit, or `vectors` where map is unused.
struct Basis {
  double *triangle, *map;  // (rank, rank)
  double* vectors;         // (rank, rows)
  double unit = 1;         // the factor's largest magnitude; infinite where it holds NaN or infinity
  bool explicit_vectors = false;
};

struct SvdShared {
  double *a, *v;                    // (rank, rank)
  double* stage;                    // (kStageRows, rank)
  double *lengths, *signs, *order;  // (rank)
  double* slots;                    // (teams)
  double* extremes;                 // (threads)
};

// out (rank, rank) = the sum over rows of stage(row)^T stage(row), a slab of rows at a time in shared memory.
template <class Block, class T>
HEADSCAN_DEVICE void gram(const Block& block, const Factor<T>& factor, double scale, std::size_t rank, double* stage,
                          double* out) {
  const std::size_t side = (rank + 3) / 4, tiles = side * side;
  for (std::size_t first_tile = 0; first_tile < tiles; first_tile += block.size()) {
    const std::size_t tile = first_tile + block.rank(), row = tile / side * 4, column = tile % side * 4;
    double sums[4][4] = {};
    for (std::size_t first = 0; first < factor.rows; first += kStageRows) {
      share(block, kStageRows * rank, [&](std::size_t at) {
        const std::size_t i = factor.row_stride == 1 ? at % kStageRows : at / rank;
        const std::size_t j = factor.row_stride == 1 ? at / kStageRows : at % rank;
        stage[i * rank + j] = first + i < factor.rows ? scale * factor.at(first + i, j) : 0.0;
      });
      if (tile >= tiles) continue;
      for (std::size_t p = 0; p < kStageRows; ++p) {
        double x[4], y[4];
        for (std::size_t k = 0; k < 4; ++k) {
          x[k] = row + k < rank ? stage[p * rank + row + k] : 0.0;
          y[k] = column + k < rank ? stage[p * rank + column + k] : 0.0;
        }
        for (std::size_t i = 0; i < 4; ++i) {
          for (std::size_t j = 0; j < 4; ++j) sums[i][j] = fma(x[i], y[j], sums[i][j]);
        }
      }
    }
    for (std::size_t i = 0; i < 4; ++i) {
      for (std::size_t j = 0; j < 4; ++j) {
        if (row + i < rank && column + j < rank) out[(row + i) * rank + column + j] = sums[i][j];
      }
    }
  }
  block.sync();
}

// column -= tau v (v . column) from row `first` on, v starting with 1 there.
template <class Team>
HEADSCAN_DEVICE void reflect(const Team& team, const double* v, double tau, std::size_t first, std::size_t rows,
                             double* column) {
  double product = 0;
  each(team, rows - first, [&](std::size_t i) { product = fma(v[first + i], column[first + i], product); });
  product = team.sum(product) * tau;
  each(team, rows - first,
       [&](std::size_t i) { column[first + i] = fma(-product, v[first + i], column[first + i]); });
}

// Householder QR: vectors and triangle. `t` (rank, rows) takes the reflections, `tau` (rank) their factors.
template <class Block, class T>
HEADSCAN_DEVICE void householder_qr(const Block& block, const Factor<T>& factor, std::size_t rank, double* t,
                                    double* tau, double* slots, Basis& out) {
  constexpr double kVanishing = 1e-290;  // squared lengths whose rounding shows in the reflections
  const auto team = block.team();
  const std::size_t lanes = decltype(team)::kLanes, index = block.rank() / lanes, teams = block.size() / lanes;
  const std::size_t rows = factor.rows;
  const double scale = 1 / out.unit;
  share(block, rank * rows, [&](std::size_t at) { t[at] = scale * factor.at(at % rows, at / rows); });
  share(block, rank * rank, [&](std::size_t at) { out.triangle[at] = 0; });
  for (std::size_t j = 0; j < rank; ++j) {
    double* v = t + j * rows;
    double tail = 0;
    for (std::size_t i = j + 1 + block.rank(); i < rows; i += block.size()) tail = fma(v[i], v[i], tail);
    tail = block_sum(block, slots, tail);
    const double head = v[j], squared = head * head + tail, length = std::sqrt(squared);
    const bool reflects = tail > 0 && squared > kVanishing;
    const double diagonal = !reflects ? head : head > 0 ? -length : length;
    const double shrink = reflects ? 1 / (head - diagonal) : 1.0;
    share(block, rows - j, [&](std::size_t i) {
      v[j + i] = i == 0 ? 1.0 : v[j + i] * shrink;
      if (i != 0) return;
      out.triangle[j * rank + j] = diagonal;
      tau[j] = reflects ? (diagonal - head) / diagonal : 0.0;
    });
    for (std::size_t other = j + 1 + index; other < rank; other += teams) {
      reflect(team, v, tau[j], j, rows, t + other * rows);
      team.sync();
      if (team.lane() == 0) out.triangle[j * rank + other] = t[other * rows + j];
    }
    block.sync();
  }
  for (std::size_t j = index; j < rank; j += teams) {
    double* column = out.vectors + j * rows;
    team.sync();
    each(team, rows, [&](std::size_t i) { column[i] = i == j ? 1.0 : 0.0; });
    for (std::size_t i = j + 1; i-- > 0;) {
      team.sync();  // lanes share out rows from row i on
      reflect(team, t + i * rows, tau[i], i, rows, column);
    }
  }
  block.sync();
}

// The basis of one factor. `single`: for float32, where one Cholesky may do.
template <class Block, class T>
HEADSCAN_DEVICE void orthonormal_basis(const Block& block, const SvdShared& shared, const Factor<T>& factor,
                                       std::size_t rank, bool single, double* t, double* tau, Basis& out) {
  constexpr double kOnceBelow = 1e3, kLeastNormal = 2.2250738585072014e-308;
  double largest = 0;
  for (std::size_t at = block.rank(); at < factor.rows * rank; at += block.size()) {
    const double magnitude = fabs(static_cast<double>(factor.data[at]));
    largest = magnitude <= 1.7976931348623157e308 ? (magnitude > largest ? magnitude : largest) : INFINITY;
    if (largest == INFINITY) break;
  }
  largest = block_max(block, shared.slots, largest);
  out.unit = largest > kLeastNormal ? largest : kLeastNormal;
  if (out.unit == INFINITY) return;
  if (single) {
    gram(block, factor, 1 / out.unit, rank, shared.stage, shared.a);
    if (cholesky(block, shared.a, rank)) {
      inverse_upper(block, shared.a, rank, shared.v);
      const double norm = frobenius(block, shared.slots, shared.a, rank * rank);
      if (norm * frobenius(block, shared.slots, shared.v, rank * rank) < kOnceBelow) {
        share(block, rank * rank, [&](std::size_t at) {
          out.triangle[at] = shared.a[at];
          out.map[at] = shared.v[at];
        });
        return;
      }
    }
  }
  out.explicit_vectors = true;
  householder_qr(block, factor, rank, t, tau, shared.slots, out);
}

// Makes row i of `rows` a unit vector orthogonal to the rows before it, which are orthonormal; by one team.
template <class Team>
HEADSCAN_DEVICE void complete_row(const Team& team, double* rows, std::size_t i, std::size_t rank) {
  double* row = rows + i * rank;
  for (std::size_t axis = 0; axis < rank; ++axis) {
    each(team, rank, [&](std::size_t c) { row[c] = c == (axis + i) % rank ? 1.0 : 0.0; });
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t j = 0; j < i; ++j) {
        const double* before = rows + j * rank;
        double product = 0;
        each(team, rank, [&](std::size_t c) { product = fma(row[c], before[c], product); });
        product = team.sum(product);
        each(team, rank, [&](std::size_t c) { row[c] = fma(-product, before[c], row[c]); });
      }
    }
    double squared = 0;
    each(team, rank, [&](std::size_t c) { squared = fma(row[c], row[c], squared); });
    squared = team.sum(squared);
    if (squared * static_cast<double>(2 * rank) > 1) {  // some axis always keeps at least 1 / rank
      const double length = std::sqrt(squared);
      each(team, rank, [&](std::size_t c) { row[c] /= length; });
      return;
    }
  }
}

// The SVD of the core: shared.lengths, shared.order (largest first), rows of `units` = columns of U in that order,
// rows of shared.v = columns of V, not yet in that order.
template <class Block>
HEADSCAN_DEVICE void core_svd(const Block& block, const SvdShared& shared, const Basis& left, const Basis& right,
                              std::size_t rank, double tolerance, double* units) {
  const auto team = block.team();
  const std::size_t lanes = decltype(team)::kLanes, index = block.rank() / lanes, teams = block.size() / lanes;
  share(block, rank * rank, [&](std::size_t at) {  // a is the core transposed
    const std::size_t i = at / rank, x = at % rank;
    double sum = 0;
    for (std::size_t p = i > x ? i : x; p < rank; ++p) {
      sum = fma(left.triangle[x * rank + p], right.triangle[i * rank + p], sum);
    }
    shared.a[at] = sum;
    shared.v[at] = i == x ? 1.0 : 0.0;
  });
  jacobi(block, shared.slots, shared.a, shared.v, rank, tolerance);
  for (std::size_t i = index; i < rank; i += teams) {
    double squared = 0;
    each(team, rank, [&](std::size_t c) { squared = fma(shared.a[i * rank + c], shared.a[i * rank + c], squared); });
    squared = team.sum(squared);
    if (team.lane() == 0) shared.lengths[i] = std::sqrt(squared);
  }
  share(block, rank, [&](std::size_t i) {
    std::size_t place = 0;
    for (std::size_t j = 0; j < rank; ++j) {
      const double mine = shared.lengths[i], other = shared.lengths[j];
      if (other > mine || (other == mine && j < i)) ++place;
    }
    shared.order[place] = static_cast<double>(i);
  });
  const double longest = shared.lengths[static_cast<std::size_t>(shared.order[0])];
  const double negligible = longest * static_cast<double>(rank) * 0x1p-52;
  share(block, rank * rank, [&](std::size_t at) {
    const auto from = static_cast<std::size_t>(shared.order[at / rank]);
    const double length = shared.lengths[from];
    if (length > negligible) units[at] = shared.a[from * rank + at % rank] / length;
  });
  if (index == 0) {
    for (std::size_t i = 0; i < rank; ++i) {
      if (shared.lengths[static_cast<std::size_t>(shared.order[i])] > negligible) continue;
      complete_row(team, units, i, rank);
    }
  }
  block.sync();
}

// shared.a = map * columns, where column j is row row_of(j) of `columns`; the columns themselves without a map.
template <class Block, class RowOf>
HEADSCAN_DEVICE void mix_columns(const Block& block, const SvdShared& shared, const Basis& basis, std::size_t rank,
                                 const double* columns, const RowOf& row_of) {
  share(block, rank * rank, [&](std::size_t at) {
    const std::size_t p = at / rank;
    const double* column = columns + row_of(at % rank) * rank;
    double sum = basis.explicit_vectors ? column[p] : 0.0;
    for (std::size_t q = basis.explicit_vectors ? rank : p; q < rank; ++q) {
      sum = fma(basis.map[p * rank + q], column[q], sum);
    }
    shared.a[at] = sum;
  });
}

// visit(i, j, value) for every value of source * shared.a (rows, rank); a thread has one column j, rows ascending.
template <class Block, class T, class Visit>
HEADSCAN_DEVICE void expand(const Block& block, const SvdShared& shared, const Factor<T>& factor, const Basis& basis,
                            std::size_t rank, const Visit& visit) {
  const std::size_t groups = block.size() / rank, group = block.rank() / rank, j = block.rank() % rank;
  const double scale = 1 / basis.unit;
  for (std::size_t first = 0; first < factor.rows; first += kStageRows) {
    const bool by_column = basis.explicit_vectors || factor.row_stride == 1;
    share(block, kStageRows * rank, [&](std::size_t at) {
      const std::size_t i = by_column ? at % kStageRows : at / rank, p = by_column ? at / kStageRows : at % rank;
      if (first + i >= factor.rows) return;
      shared.stage[i * rank + p] =
          basis.explicit_vectors ? basis.vectors[p * factor.rows + first + i] : scale * factor.at(first + i, p);
    });
    if (group >= groups) continue;
    for (std::size_t i = group; i < kStageRows && first + i < factor.rows; i += groups) {
      double value = 0;
      for (std::size_t p = 0; p < rank; ++p) value = fma(shared.stage[i * rank + p], shared.a[p * rank + j], value);
      visit(first + i, j, value);
    }
  }
  block.sync();
}

}  // namespace headscan::cuda
