#include "cpu/svd/core_svd.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/exact.hpp"

namespace headscan {
namespace {

// Makes row i of `rows` (r, ld) a unit vector orthogonal to rows 0 .. i-1, which are orthonormal.
void complete_row(double* rows, std::size_t i, std::size_t r, std::size_t ld) {
  for (std::size_t axis = 0; axis < r; ++axis) {
    double* row = rows + i * ld;
    std::fill(row, row + ld, 0.0);
    row[(axis + i) % r] = 1;
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t j = 0; j < i; ++j) {
        const double p = dot(row, rows + j * ld, r);
        for (std::size_t c = 0; c < r; ++c) row[c] -= p * rows[j * ld + c];
      }
    }
    const double length = std::sqrt(dot(row, row, r));
    if (length * length * static_cast<double>(2 * r) > 1) {  // some axis always keeps at least 1/r
      for (std::size_t c = 0; c < r; ++c) row[c] /= length;
      return;
    }
  }
}

std::vector<double> row_lengths(const std::vector<double>& rows, std::size_t r, std::size_t ld) {
  std::vector<double> lengths(r);
  for (std::size_t i = 0; i < r; ++i) lengths[i] = std::sqrt(dot(&rows[i * ld], &rows[i * ld], r));
  return lengths;
}

}  // namespace

CoreSvd core_svd(const std::vector<double>& left, const std::vector<double>& right, std::size_t r, bool single,
                 const DenseKernels& kernels) {
  const std::size_t ld = padded(r);
  const double tolerance = single ? 1e-10 : 0x1p-52 * std::sqrt(static_cast<double>(r));
  // `a` holds the core transposed: its rows are the core's columns, which Jacobi makes orthogonal.
  std::vector<double> a(ld * ld, 0.0), rotations(ld * ld, 0.0), transposed(ld * ld, 0.0);
  for (std::size_t i = 0; i < ld; ++i) {
    for (std::size_t j = 0; j < ld; ++j) transposed[j * ld + i] = left[i * ld + j];
  }
  kernels.multiply_f64(right.data(), ld, transposed.data(), ld, ld, ld, a.data());
  const std::vector<double> columns = a;
  std::vector<double> lengths(r, 0.0);
  if (single) {
    kernels.jacobi_f64(a.data(), nullptr, r, ld, tolerance);
    lengths = row_lengths(a, r, ld);
  }
  // Where the core is well conditioned v follows from u and the core; else the rotations are gathered as v.
  const auto [least, most] = std::minmax_element(lengths.begin(), lengths.end());
  const bool follows = single && *least > 1e-6 * *most;
  if (!follows) {
    a = columns;
    for (std::size_t i = 0; i < r; ++i) rotations[i * ld + i] = 1;
    kernels.jacobi_f64(a.data(), rotations.data(), r, ld, tolerance);
    lengths = row_lengths(a, r, ld);
  }
  std::vector<std::size_t> order(r);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto i, auto j) { return lengths[i] > lengths[j]; });

  CoreSvd out{std::vector<double>(ld * ld, 0.0), std::vector<double>(ld * ld, 0.0), std::vector<double>(r)};
  std::vector<double> units(ld * ld, 0.0);
  const double negligible = lengths[order[0]] * static_cast<double>(r) * 0x1p-52;
  for (std::size_t i = 0; i < r; ++i) {
    const double length = out.sigma[i] = lengths[order[i]];
    const double* row = &a[order[i] * ld];
    if (length > negligible) {
      for (std::size_t c = 0; c < r; ++c) units[i * ld + c] = row[c] / length;
    } else {
      complete_row(units.data(), i, r, ld);
    }
    for (std::size_t c = 0; c < r; ++c) {
      out.u[c * ld + i] = units[i * ld + c];
      out.v[c * ld + i] = rotations[order[i] * ld + c];
    }
  }
  if (follows) {
    kernels.multiply_f64(columns.data(), ld, out.u.data(), ld, r, ld, out.v.data());
    for (std::size_t c = 0; c < r; ++c) {
      for (std::size_t i = 0; i < r; ++i) out.v[c * ld + i] /= out.sigma[i];
    }
  }
  return out;
}

std::vector<double> column_signs(const std::vector<double>& u, std::size_t rows, std::size_t r, std::size_t ld) {
  std::vector<double> extreme(r, 0.0);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < r; ++j) {
      if (std::abs(u[i * ld + j]) > std::abs(extreme[j])) extreme[j] = u[i * ld + j];
    }
  }
  for (double& value : extreme) value = value < 0 ? -1.0 : 1.0;
  return extreme;
}

}  // namespace headscan
