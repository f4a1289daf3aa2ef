#include "cpu/svd/large_matrix.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace headscan {
namespace {

constexpr std::size_t kRowTask = 80;         // rows of a result that one task makes
constexpr std::size_t kColumnTask = 320;     // the same in the transposed product
constexpr std::size_t kSumTask = 1U << 18U;  // values that one task squares and adds

template <class T>
double squared_norm(const T* data, std::size_t values, const ThinKernels<T>& kernels, Pool& pool) {
  std::vector<double> parts((values + kSumTask - 1) / kSumTask);
  pool.run(parts.size(), [&](std::size_t task, std::size_t) {
    const std::size_t first = task * kSumTask;
    parts[task] = kernels.sum_squares(data + first, std::min(kSumTask, values - first));
  });
  double sum = 0;
  for (const double part : parts) sum += part;
  return sum;
}

// Squared norms between these leave room for every product and for float64 Gram matrices.
template <class T>
bool comfortable(double squared_norm) {
  constexpr double kFar = sizeof(T) == sizeof(float) ? 1e36 : 1e150;
  return squared_norm > 1 / kFar && squared_norm < kFar;
}

}  // namespace

template <class T>
ScaledMatrix<T>::ScaledMatrix(const T* data, std::size_t rows, std::size_t columns, const std::string& name,
                              const DenseKernels& kernels, Pool& pool)
    : data_(data),
      rows_(rows),
      columns_(columns),
      kernels_(kernels),
      squared_norm_(headscan::squared_norm(data, rows * columns, kernels.thin<T>(), pool)) {
  if (comfortable<T>(squared_norm_)) return;
  rescale(name);
  squared_norm_ = headscan::squared_norm(data_, rows * columns, kernels.thin<T>(), pool);
}

template <class T>
void ScaledMatrix<T>::rescale(const std::string& name) {
  double largest = 0;
  for (std::size_t i = 0; i < rows_ * columns_; ++i) {
    const auto value = static_cast<double>(data_[i]);
    if (!std::isfinite(value)) throw std::invalid_argument(name + " holds NaN or infinity");
    largest = std::max(largest, std::abs(value));
  }
  if (largest == 0) return;
  int exponent = 0;
  std::frexp(largest, &exponent);
  exponent = std::min(exponent, std::numeric_limits<double>::max_exponent - 1);  // so that scale_ is finite
  copy_.resize(rows_ * columns_);
  for (std::size_t i = 0; i < copy_.size(); ++i) {
    copy_[i] = static_cast<T>(std::ldexp(static_cast<double>(data_[i]), -exponent));
  }
  scale_ = std::ldexp(1.0, exponent);
  data_ = copy_.data();
}

template <class T>
void ScaledMatrix<T>::multiply(const T* thin, std::size_t ld, T* out, Pool& pool) const {
  const auto& kernels = kernels_.thin<T>();
  const std::size_t step = pool.workers() > 1 ? kRowTask : std::max<std::size_t>(rows_, 1);
  pool.run((rows_ + step - 1) / step, [&](std::size_t task, std::size_t) {
    const std::size_t first = task * step;
    kernels.multiply(data_ + first * columns_, columns_, thin, std::min(step, rows_ - first), columns_, ld,
                     out + first * ld);
  });
}

template <class T>
void ScaledMatrix<T>::multiply_transposed(const T* thin, std::size_t ld, T* out, Pool& pool) const {
  const auto& kernels = kernels_.thin<T>();
  const std::size_t step = pool.workers() > 1 ? kColumnTask : std::max<std::size_t>(columns_, 1);
  pool.run((columns_ + step - 1) / step, [&](std::size_t task, std::size_t) {
    const std::size_t first = task * step;
    kernels.multiply_transposed(data_ + first, columns_, thin, rows_, std::min(step, columns_ - first), ld,
                                out + first * ld);
  });
}

template <class T>
void LargeMatrix<T>::multiply(const T* thin, std::size_t ld, T* out, Pool& pool) const {
  if (!factored()) return left_.multiply(thin, ld, out, pool);
  std::vector<T> between(left_.columns() * ld);
  right_[0].multiply(thin, ld, between.data(), pool);
  left_.multiply(between.data(), ld, out, pool);
}

template <class T>
void LargeMatrix<T>::multiply_transposed(const T* thin, std::size_t ld, T* out, Pool& pool) const {
  if (!factored()) return left_.multiply_transposed(thin, ld, out, pool);
  std::vector<T> between(left_.columns() * ld);
  left_.multiply_transposed(thin, ld, between.data(), pool);
  right_[0].multiply_transposed(between.data(), ld, out, pool);
}

template class ScaledMatrix<float>;
template class ScaledMatrix<double>;
template class LargeMatrix<float>;
template class LargeMatrix<double>;

}  // namespace headscan
