// The least-squares refit of one query's coefficients, each time an atom is added.
#pragma once

#include <cstddef>
#include <vector>

namespace headscan {

// min 1/2 |target - sum c_j g_j|^2 + penalty * sum c_j, over c >= 0 or over all c (then without penalty).
//
// Non-negative: Lawson-Hanson active set over the atoms added so far. The active columns are kept as an orthonormal
// basis (Gram-Schmidt, twice) and a triangle, so the fit stays accurate where atoms are nearly parallel; a column
// that lies in the span of the active ones is left out, which costs nothing in the residual.
// All float64; the answer for one query never depends on another.
class Refit {
 public:
  struct Options {
    bool non_negative = true;
    double penalty = 0;
  };

  Refit(std::size_t width, std::size_t capacity, const Options& options);

  void reset(const double* target);  // (width)
  void add(const float* atom);       // (width): becomes column count(), then everything is refitted
  std::size_t count() const { return count_; }
  const double* coefficients() const { return coefficients_.data(); }  // (count)
  const double* residual() const { return residual_.data(); }          // (width)

 private:
  void update_residual();
  bool append_active(std::size_t column);
  void rebuild_active();
  void solve_active();
  void refit();
  void walk();
  bool enter_best();

  std::size_t width_, capacity_, count_ = 0;
  Options options_;
  std::vector<double> target_, residual_, columns_, basis_, triangle_, coefficients_, solution_, projection_, ones_;
  std::vector<std::size_t> active_;
  std::vector<bool> is_active_, blocked_;
};

}  // namespace headscan
