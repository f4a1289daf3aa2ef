// Full-precision rows of a dictionary: in memory, or read from a file so that a dictionary larger than memory never
// becomes resident.
#pragma once

#include <cstddef>
#include <cstdint>

#include "headscan/comp.hpp"

namespace headscan {

class RowSource {
 public:
  // With `files`, rows are read from them; `atoms` must map the same values.
  explicit RowSource(MatrixView<const float> atoms, const RowFiles& files = {}) : atoms_(atoms), files_(files) {}

  const MatrixView<const float>& atoms() const { return atoms_; }

  // Row `index`, valid until the next fetch into `buffer` (width values). Throws std::runtime_error if it cannot
  // be read.
  const float* fetch(std::int64_t index, float* buffer) const;

  // Starts bringing a row into cache; only a hint.
  void prefetch(std::int64_t index) const;

 private:
  MatrixView<const float> atoms_;
  RowFiles files_;
};

}  // namespace headscan
