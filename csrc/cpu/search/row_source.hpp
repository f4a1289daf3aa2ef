// Full-precision rows of a dictionary: in memory, or read from a file so that a dictionary larger than memory never
// becomes resident.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

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

  // Asks the system to read rows that are in files ahead of their fetches, all at once: one by one, each would wait
  // for the disk. Only a hint.
  void announce(const std::vector<std::int64_t>& indices) const;

 private:
  struct Place {
    int descriptor;
    off_t offset;
  };

  Place find(std::int64_t index) const;

  MatrixView<const float> atoms_;
  RowFiles files_;
};

}  // namespace headscan
