#include "cpu/refit.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/exact.hpp"

namespace headscan {
namespace {

void add_scaled(double* to, double factor, const double* from, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

}  // namespace

Refit::Refit(std::size_t width, std::size_t capacity, const Options& options)
    : width_(width),
      capacity_(capacity),
      options_(options),
      target_(width),
      residual_(width),
      columns_(capacity * width),
      basis_(capacity * width),
      triangle_(capacity * capacity),
      coefficients_(capacity),
      solution_(capacity),
      projection_(capacity),
      ones_(capacity),
      is_active_(capacity),
      blocked_(capacity) {
  active_.reserve(capacity);
}

void Refit::reset(const double* target) {
  std::copy(target, target + width_, target_.begin());
  std::copy(target, target + width_, residual_.begin());
  active_.clear();
  count_ = 0;
}

void Refit::add(const float* atom) {
  std::copy(atom, atom + width_, &columns_[count_ * width_]);
  coefficients_[count_] = 0;
  is_active_[count_] = false;
  ++count_;
  refit();
}

// Orthogonalises a column against the basis; false if nothing of it is left.
bool Refit::append_active(std::size_t column) {
  const std::size_t position = active_.size();
  double* direction = &basis_[position * width_];
  std::copy_n(&columns_[column * width_], width_, direction);
  const double length = std::sqrt(dot(direction, direction, width_));
  for (std::size_t p = 0; p < position; ++p) triangle_[p * capacity_ + position] = 0;
  for (int pass = 0; pass < 2; ++pass) {
    for (std::size_t p = 0; p < position; ++p) {
      const double part = dot(direction, &basis_[p * width_], width_);
      triangle_[p * capacity_ + position] += part;
      add_scaled(direction, -part, &basis_[p * width_], width_);
    }
  }
  const double left = std::sqrt(dot(direction, direction, width_));
  constexpr double kDependent = 1e-13;
  if (!(left > kDependent * length)) return false;
  for (std::size_t i = 0; i < width_; ++i) direction[i] /= left;
  triangle_[position * capacity_ + position] = left;
  double ones = 1;  // row `position` of the triangle's inverse transpose times ones: what a penalty subtracts
  for (std::size_t p = 0; p < position; ++p) ones -= triangle_[p * capacity_ + position] * ones_[p];
  ones_[position] = ones / left;
  projection_[position] = dot(direction, target_.data(), width_) - options_.penalty * ones_[position];
  active_.push_back(column);
  is_active_[column] = true;
  return true;
}

void Refit::rebuild_active() {
  std::vector<std::size_t> kept;
  for (const std::size_t column : active_) {
    if (is_active_[column]) kept.push_back(column);
  }
  active_.clear();
  for (const std::size_t column : kept) {
    if (!append_active(column)) {
      is_active_[column] = false;
      coefficients_[column] = 0;
    }
  }
}

// solution = the fit over the active columns without the constraint, by back-substitution.
void Refit::solve_active() {
  for (std::size_t p = active_.size(); p-- > 0;) {
    double value = projection_[p];
    for (std::size_t q = p + 1; q < active_.size(); ++q) value -= triangle_[p * capacity_ + q] * solution_[q];
    solution_[p] = value / triangle_[p * capacity_ + p];
  }
}

void Refit::update_residual() {
  residual_ = target_;
  for (const std::size_t column : active_) {
    add_scaled(residual_.data(), -coefficients_[column], &columns_[column * width_], width_);
  }
}

// Lets the passive column with the steepest descent in; false when none descends.
bool Refit::enter_best() {
  const double floor =
      16 * std::numeric_limits<double>::epsilon() * std::sqrt(dot(target_.data(), target_.data(), width_));
  for (;;) {
    std::size_t best = count_;
    double steepest = floor;
    for (std::size_t column = 0; column < count_; ++column) {
      if (is_active_[column] || blocked_[column]) continue;
      const double slope = dot(&columns_[column * width_], residual_.data(), width_) - options_.penalty;
      if (slope > steepest) {
        steepest = slope;
        best = column;
      }
    }
    if (best == count_) return false;
    if (append_active(best)) {
      solve_active();
      if (solution_[active_.size() - 1] > 0) return true;
      active_.pop_back();
      is_active_[best] = false;
    }
    blocked_[best] = true;  // rounding alone made it look useful
  }
}

void Refit::refit() {
  if (!options_.non_negative) {
    if (append_active(count_ - 1)) solve_active();
    for (std::size_t p = 0; p < active_.size(); ++p) coefficients_[active_[p]] = solution_[p];
    update_residual();
    return;
  }
  std::fill(blocked_.begin(), blocked_.end(), false);
  // Each entry lowers the error, so no active set comes twice; the bound only guards against rounding.
  for (std::size_t entries = 0; entries < 3 * capacity_ && enter_best(); ++entries) {
    walk();
    update_residual();
  }
}

// From the feasible fit towards the unconstrained one, as far as all stay non-negative; those that reach zero leave,
// and on towards the unconstrained fit of the rest.
void Refit::walk() {
  const auto reach = [this](std::size_t p) {
    const double now = coefficients_[active_[p]];
    return now > 0 ? now / (now - solution_[p]) : 0.0;
  };
  for (;;) {
    double step = 1;
    for (std::size_t p = 0; p < active_.size(); ++p) {
      if (solution_[p] <= 0) step = std::min(step, reach(p));
    }
    bool dropped = false;
    for (std::size_t p = 0; p < active_.size(); ++p) {
      double& now = coefficients_[active_[p]];
      const bool blocking = solution_[p] <= 0 && reach(p) <= step;
      now = step == 1 ? solution_[p] : now + step * (solution_[p] - now);
      if (blocking) {
        now = 0;
        is_active_[active_[p]] = false;
        dropped = true;
      }
    }
    if (!dropped) return;
    rebuild_active();
    solve_active();
  }
}

}  // namespace headscan
