// The least-squares refit of one query's coefficients, each time an atom is added.
#pragma once

#include <cstddef>
#include <vector>

#include "common/refit_steps.hpp"

namespace headscan {

// min 1/2 |target - sum c_j g_j|^2 + penalty * sum c_j, over c >= 0 or over all c (then without penalty).
//
// Non-negative: Lawson-Hanson active set over the atoms added so far. The active columns are kept as an orthonormal
// basis (Gram-Schmidt, twice) and a triangle, so the fit stays accurate where atoms are nearly parallel; a column
// that lies in the span of the active ones is left out, which costs nothing in the residual.
// All float64; the answer for one query never depends on another.
class Refit {
 public:
  using Options = RefitOptions;

  Refit(std::size_t width, std::size_t capacity, const Options& options);
  Refit(Refit&&) = default;  // state_ points into the vectors' memory, so there is no copying

  void reset(const double* target);  // (width)
  void add(const float* atom);       // (width): becomes column count(), then everything is refitted
  std::size_t count() const { return state_.count; }
  const double* coefficients() const { return state_.coefficients(); }  // (count)
  const double* residual() const { return state_.residual; }            // (width)

 private:
  Options options_;
  std::vector<double> vectors_, columns_, small_;
  RefitState state_;
};

}  // namespace headscan
