// Non-negative least squares for one query, refitted each time an atom is added.
#pragma once

#include <cstddef>
#include <vector>

namespace headscan {

// Lawson-Hanson active set over the atoms added so far. The active columns are kept as an orthonormal basis
// (Gram-Schmidt, twice) and a triangle, so the fit stays accurate where atoms are nearly parallel; a column
// that lies in the span of the active ones is left out, which costs nothing in the residual.
// All float64; the answer for one query never depends on another.
class Nnls {
 public:
  Nnls(std::size_t width, std::size_t capacity);

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
  bool enter_best();

  std::size_t width_, capacity_, count_ = 0;
  std::vector<double> target_, residual_, columns_, basis_, triangle_, coefficients_, solution_, projection_;
  std::vector<std::size_t> active_;
  std::vector<bool> is_active_, blocked_;
};

}  // namespace headscan
