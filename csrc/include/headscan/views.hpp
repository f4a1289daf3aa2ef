// Non-owning views of row-major arrays: what every public function takes. Callers own all memory.
#pragma once

#include <cstddef>

namespace headscan {

// `rows` x `columns` values; row i starts at data + i * stride, its values are contiguous.
template <class T>
struct MatrixView {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::size_t stride = 0;  // in values, >= columns

  T* row(std::size_t i) const { return data + i * stride; }
};

// `count` contiguous matrices of `rows` x `columns` values each.
template <class T>
struct BatchView {
  T* data = nullptr;
  std::size_t count = 0;
  std::size_t rows = 0;
  std::size_t columns = 0;

  T* matrix(std::size_t i) const { return data + i * rows * columns; }
};

}  // namespace headscan
