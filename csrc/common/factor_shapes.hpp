// The check of svd_factored's arguments, for both backends.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include "headscan/views.hpp"

namespace headscan {

template <class T>
void check_factor_shapes(const BatchView<const T>& left, const BatchView<const T>& right) {
  const std::size_t r = left.columns;
  if (left.count == right.count && right.rows == r && r > 0 && r <= left.rows && r <= right.columns) return;
  const auto shape = [](const BatchView<const T>& batch) {
    return "(" + std::to_string(batch.count) + ", " + std::to_string(batch.rows) + ", " +
           std::to_string(batch.columns) + ")";
  };
  throw std::invalid_argument("expected left (n, d, r) and right (n, r, d') with 1 <= r <= d and r <= d', got " +
                              shape(left) + " and " + shape(right));
}

}  // namespace headscan
