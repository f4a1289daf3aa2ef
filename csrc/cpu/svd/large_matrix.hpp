// A large matrix as randomized methods see it: products with thin matrices, threads inside each product.
//
// Thin matrices are row-major, their row length ld a multiple of kPanel, the padding zero. Rows of a result are
// shared out among the workers; no sum is, so the number of workers changes nothing.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "cpu/kernels/dense.hpp"
#include "cpu/support/parallel.hpp"
#include "headscan/views.hpp"

namespace headscan {

inline std::size_t panels(std::size_t n) { return (n + kPanel - 1) / kPanel * kPanel; }

// One row-major matrix, scaled by a power of two where its squares could overflow or vanish.
template <class T>
class ScaledMatrix {
 public:
  // Throws std::invalid_argument naming it where a value is NaN or infinite.
  ScaledMatrix(const T* data, std::size_t rows, std::size_t columns, const std::string& name,
               const DenseKernels& kernels, Pool& pool);

  ScaledMatrix(ScaledMatrix&&) = default;  // data_ may point into copy_, so there is no copying

  void multiply(const T* thin, std::size_t ld, T* out, Pool& pool) const;
  void multiply_transposed(const T* thin, std::size_t ld, T* out, Pool& pool) const;

  std::size_t rows() const { return rows_; }
  std::size_t columns() const { return columns_; }
  const DenseKernels& kernels() const { return kernels_; }
  double scale() const { return scale_; }                // the matrix is scale() times what is multiplied
  double squared_norm() const { return squared_norm_; }  // of what is multiplied

 private:
  void rescale(const std::string& name);

  const T* data_;
  std::size_t rows_, columns_;
  const DenseKernels& kernels_;
  double scale_ = 1;
  double squared_norm_ = 0;
  std::vector<T> copy_;
};

// A matrix, or the product of two that is never formed.
template <class T>
class LargeMatrix {
 public:
  explicit LargeMatrix(ScaledMatrix<T> dense) : left_(std::move(dense)) {}
  LargeMatrix(ScaledMatrix<T> left, ScaledMatrix<T> right) : left_(std::move(left)) {
    right_.push_back(std::move(right));
  }

  void multiply(const T* thin, std::size_t ld, T* out, Pool& pool) const;             // (columns) -> (rows)
  void multiply_transposed(const T* thin, std::size_t ld, T* out, Pool& pool) const;  // (rows) -> (columns)

  std::size_t rows() const { return left_.rows(); }
  std::size_t columns() const { return factored() ? right_[0].columns() : left_.columns(); }
  const DenseKernels& kernels() const { return left_.kernels(); }
  bool factored() const { return !right_.empty(); }
  double scale() const { return factored() ? left_.scale() * right_[0].scale() : left_.scale(); }
  double squared_norm() const { return left_.squared_norm(); }  // of a dense matrix

 private:
  ScaledMatrix<T> left_;
  std::vector<ScaledMatrix<T>> right_;  // none or one
};

}  // namespace headscan
