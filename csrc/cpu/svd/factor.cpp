#include "cpu/svd/factor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace headscan {
namespace {

// In place: the upper triangle of gram becomes U with U^T U = gram, the rest zero. False if not positive.
bool cholesky(std::vector<double>& gram, std::size_t rank, std::size_t ld) {
  for (std::size_t i = 0; i < rank; ++i) {
    double* row = &gram[i * ld];
    if (!(row[i] > 0)) return false;
    const double inverse = 1 / std::sqrt(row[i]);
    for (std::size_t j = i; j < rank; ++j) row[j] *= inverse;
    std::fill(row, row + i, 0.0);
    for (std::size_t p = i + 1; p < rank; ++p) {
      const double factor = row[p];
      double* below = &gram[p * ld];
      for (std::size_t j = p; j < rank; ++j) below[j] -= factor * row[j];
    }
  }
  return true;
}

std::vector<double> inverse_upper(const std::vector<double>& upper, std::size_t rank, std::size_t ld) {
  std::vector<double> inverse(ld * ld, 0.0);
  for (std::size_t i = rank; i-- > 0;) {
    double* row = &inverse[i * ld];
    row[i] = 1;
    for (std::size_t p = i + 1; p < rank; ++p) {
      const double factor = upper[i * ld + p];
      for (std::size_t j = p; j < rank; ++j) row[j] -= factor * inverse[p * ld + j];
    }
    const double scale = 1 / upper[i * ld + i];
    for (std::size_t j = i; j < rank; ++j) row[j] *= scale;
  }
  return inverse;
}

double frobenius(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

struct Cholesky {
  std::vector<double> triangle, inverse;
  double condition = std::numeric_limits<double>::infinity();  // upper bound, in the Frobenius norm
};

Cholesky gram_cholesky(const std::vector<double>& a, std::size_t rows, std::size_t rank, std::size_t ld,
                       const DenseKernels& kernels) {
  Cholesky out;
  out.triangle.resize(ld * ld);
  kernels.gram_f64(a.data(), rows, ld, out.triangle.data());
  if (!cholesky(out.triangle, rank, ld)) return out;
  out.inverse = inverse_upper(out.triangle, rank, ld);
  out.condition = frobenius(out.triangle) * frobenius(out.inverse);
  return out;
}

// Squared lengths below this are left out, as their rounding shows in the reflections: below 1e-145 in a factor of
// about 1.
constexpr double kVanishing = 1e-290;

// Householder QR on columns kept as contiguous rows of `t` (rank, rows).
void householder_qr(std::size_t rows, std::size_t rank, std::size_t ld, Basis& out) {
  out.map.assign(ld * ld, 0.0);
  for (std::size_t j = 0; j < rank; ++j) out.map[j * ld + j] = 1;
  out.triangle.assign(ld * ld, 0.0);
  std::vector<double> t(rank * rows), tau(rank, 0.0);
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < rank; ++j) t[j * rows + i] = out.source[i * ld + j];
  }
  std::fill(out.source.begin(), out.source.end(), 0.0);
  const auto reflect = [&](std::size_t j, double* column) {  // column -= tau v (v . column), v = t[j] from row j
    const double* v = &t[j * rows];
    double product = column[j];
    for (std::size_t i = j + 1; i < rows; ++i) product += v[i] * column[i];
    product *= tau[j];
    column[j] -= product;
    for (std::size_t i = j + 1; i < rows; ++i) column[i] -= product * v[i];
  };
  for (std::size_t j = 0; j < rank; ++j) {
    double* v = &t[j * rows];
    double tail = 0;
    for (std::size_t i = j + 1; i < rows; ++i) tail += v[i] * v[i];
    const double squared = v[j] * v[j] + tail, length = std::sqrt(squared);
    double diagonal = v[j];
    if (tail > 0 && squared > kVanishing) {
      diagonal = v[j] > 0 ? -length : length;
      tau[j] = (diagonal - v[j]) / diagonal;
      const double scale = 1 / (v[j] - diagonal);
      for (std::size_t i = j + 1; i < rows; ++i) v[i] *= scale;
    }
    v[j] = 1;
    out.triangle[j * ld + j] = diagonal;
    for (std::size_t other = j + 1; other < rank; ++other) {
      reflect(j, &t[other * rows]);
      out.triangle[j * ld + other] = t[other * rows + j];
    }
  }
  std::vector<double> column(rows);
  for (std::size_t j = 0; j < rank; ++j) {
    std::fill(column.begin(), column.end(), 0.0);
    column[j] = 1;
    for (std::size_t i = j + 1; i-- > 0;) reflect(i, column.data());
    for (std::size_t i = 0; i < rows; ++i) out.source[i * ld + j] = column[i];
  }
}

}  // namespace

void orthonormal_basis(std::size_t rows, std::size_t rank, double once_below, const DenseKernels& kernels,
                       Basis& out) {
  constexpr double kTwiceBelow = 1e6;  // an order below where CholeskyQR2 loses orthogonality
  const std::size_t ld = padded(rank);
  Cholesky first = gram_cholesky(out.source, rows, rank, ld, kernels);
  if (first.condition < once_below) {
    out.map = std::move(first.inverse);
    out.triangle = std::move(first.triangle);
    return;
  }
  if (first.condition < kTwiceBelow) {
    out.scratch.resize(rows * ld);
    kernels.multiply_f64(out.source.data(), ld, first.inverse.data(), rows, rank, ld, out.scratch.data());
    Cholesky second = gram_cholesky(out.scratch, rows, rank, ld, kernels);
    if (second.condition < 2.0 * static_cast<double>(rank)) {
      std::swap(out.source, out.scratch);
      out.map = std::move(second.inverse);
      out.triangle.resize(ld * ld);
      kernels.multiply_f64(second.triangle.data(), ld, first.triangle.data(), ld, ld, ld, out.triangle.data());
      return;
    }
  }
  householder_qr(rows, rank, ld, out);
}

}  // namespace headscan
