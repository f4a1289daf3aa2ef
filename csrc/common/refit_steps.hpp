// The least-squares refit of one query's coefficients (cpu/comp/refit.hpp has the method), as both backends run it:
// every sum in the order of exact.hpp, nothing contracted, so CPU and GPU get the same bits.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "common/team.hpp"

namespace headscan {

struct RefitOptions {
  bool non_negative = true;
  double penalty = 0;
};

// Memory of one query, owned by the caller. Lanes hold copies of the struct itself, counts included.
struct RefitState {
  std::size_t width = 0, capacity = 0;
  double *target = nullptr, *residual = nullptr;  // (width)
  double* basis = nullptr;                        // (capacity, width)
  double* small = nullptr;                        // small_doubles(capacity)
  std::size_t count = 0, active_count = 0;

  static HEADSCAN_BOTH std::size_t small_doubles(std::size_t capacity) { return capacity * (capacity + 6); }
  HEADSCAN_DEVICE double* triangle() const { return small; }  // (capacity, capacity)
  HEADSCAN_DEVICE double* array(std::size_t i) const { return small + capacity * (capacity + i); }
  HEADSCAN_DEVICE double* coefficients() const { return array(0); }  // (capacity) each from here on
  HEADSCAN_DEVICE double* solution() const { return array(1); }
  HEADSCAN_DEVICE double* projection() const { return array(2); }
  HEADSCAN_DEVICE double* ones() const { return array(3); }
  HEADSCAN_DEVICE std::int32_t* active() const { return reinterpret_cast<std::int32_t*>(array(4)); }
  HEADSCAN_DEVICE std::int32_t* kept() const { return active() + capacity; }
  HEADSCAN_DEVICE std::uint8_t* is_active() const { return reinterpret_cast<std::uint8_t*>(array(5)); }
  HEADSCAN_DEVICE std::uint8_t* blocked() const { return is_active() + capacity; }
};

// `columns(c)` is the row of numbers of column c.
template <class Team, class Columns>
class RefitSteps {
 public:
  HEADSCAN_DEVICE RefitSteps(const Team& team, RefitState& state, const Columns& columns, const RefitOptions& options)
      : team_(team), s_(state), columns_(columns), options_(options) {}

  // Column `count` has just come: refits all of them.
  HEADSCAN_DEVICE void add() {
    once(team_, [&] {
      s_.coefficients()[s_.count] = 0;
      s_.is_active()[s_.count] = 0;
    });
    ++s_.count;
    if (options_.non_negative) {
      refit();
    } else {
      if (append_active(s_.count - 1)) solve_active();
      once(team_, [&] {
        for (std::size_t p = 0; p < s_.active_count; ++p) s_.coefficients()[s_.active()[p]] = s_.solution()[p];
      });
      update_residual();
    }
  }

 private:
  HEADSCAN_DEVICE double& triangle(std::size_t row, std::size_t column) {
    return s_.triangle()[row * s_.capacity + column];
  }
  template <class Column>
  HEADSCAN_DEVICE void add_scaled(double* to, double factor, const Column* from) {
    each(team_, s_.width, [&](std::size_t i) { to[i] += factor * static_cast<double>(from[i]); });
  }

  // Orthogonalises a column against the basis; false if nothing of it is left.
  HEADSCAN_DEVICE bool append_active(std::size_t column) {
    const std::size_t position = s_.active_count;
    double* direction = s_.basis + position * s_.width;
    const auto* source = columns_(column);
    each(team_, s_.width, [&](std::size_t i) { direction[i] = static_cast<double>(source[i]); });
    const double length = std::sqrt(team_.dot(direction, direction, s_.width));
    once(team_, [&] {
      for (std::size_t p = 0; p < position; ++p) triangle(p, position) = 0;
    });
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t p = 0; p < position; ++p) {
        const double part = team_.dot(direction, s_.basis + p * s_.width, s_.width);
        if (team_.lane() == 0) triangle(p, position) += part;
        add_scaled(direction, -part, s_.basis + p * s_.width);
      }
    }
    const double left = std::sqrt(team_.dot(direction, direction, s_.width));
    constexpr double kDependent = 1e-13;
    if (!(left > kDependent * length)) return false;
    each(team_, s_.width, [&](std::size_t i) { direction[i] /= left; });
    const double along = team_.dot(direction, s_.target, s_.width);
    once(team_, [&] {
      triangle(position, position) = left;
      double ones = 1;  // row `position` of the triangle's inverse transpose times ones: what a penalty subtracts
      for (std::size_t p = 0; p < position; ++p) ones -= triangle(p, position) * s_.ones()[p];
      s_.ones()[position] = ones / left;
      s_.projection()[position] = along - options_.penalty * s_.ones()[position];
      s_.active()[position] = static_cast<std::int32_t>(column);
      s_.is_active()[column] = 1;
    });
    ++s_.active_count;
    return true;
  }

  HEADSCAN_DEVICE void rebuild_active() {
    std::size_t count = 0;
    for (std::size_t p = 0; p < s_.active_count; ++p) {
      const std::int32_t column = s_.active()[p];
      if (s_.is_active()[column] == 0) continue;
      if (team_.lane() == 0) s_.kept()[count] = column;
      ++count;
    }
    team_.sync();
    s_.active_count = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const auto column = static_cast<std::size_t>(s_.kept()[i]);
      if (append_active(column)) continue;
      once(team_, [&] {
        s_.is_active()[column] = 0;
        s_.coefficients()[column] = 0;
      });
    }
  }

  // solution = the fit over the active columns without the constraint, by back-substitution.
  HEADSCAN_DEVICE void solve_active() {
    once(team_, [&] {
      for (std::size_t p = s_.active_count; p-- > 0;) {
        double value = s_.projection()[p];
        for (std::size_t q = p + 1; q < s_.active_count; ++q) value -= triangle(p, q) * s_.solution()[q];
        s_.solution()[p] = value / triangle(p, p);
      }
    });
  }

  HEADSCAN_DEVICE void update_residual() {
    each(team_, s_.width, [&](std::size_t i) { s_.residual[i] = s_.target[i]; });
    for (std::size_t p = 0; p < s_.active_count; ++p) {
      const auto column = static_cast<std::size_t>(s_.active()[p]);
      add_scaled(s_.residual, -s_.coefficients()[column], columns_(column));
    }
  }

  // Lets the passive column with the steepest descent in; false when none descends.
  HEADSCAN_DEVICE bool enter_best() {
    const double floor = 16 * 0x1p-52 * std::sqrt(team_.dot(s_.target, s_.target, s_.width));
    for (;;) {
      std::size_t best = s_.count;
      double steepest = floor;
      for (std::size_t column = 0; column < s_.count; ++column) {
        if (s_.is_active()[column] != 0 || s_.blocked()[column] != 0) continue;
        const double slope = team_.dot(columns_(column), s_.residual, s_.width) - options_.penalty;
        if (slope > steepest) {
          steepest = slope;
          best = column;
        }
      }
      if (best == s_.count) return false;
      if (append_active(best)) {
        solve_active();
        if (s_.solution()[s_.active_count - 1] > 0) return true;
        --s_.active_count;
        once(team_, [&] { s_.is_active()[best] = 0; });
      }
      once(team_, [&] { s_.blocked()[best] = 1; });  // rounding alone made it look useful
    }
  }

  HEADSCAN_DEVICE void refit() {
    once(team_, [&] {
      for (std::size_t column = 0; column < s_.count; ++column) s_.blocked()[column] = 0;
    });
    // Each entry lowers the error, so no active set comes twice; the bound only guards against rounding.
    for (std::size_t entries = 0; entries < 3 * s_.capacity && enter_best(); ++entries) {
      walk();
      update_residual();
    }
  }

  // The share of the way to the unconstrained fit after which coefficient p is zero.
  HEADSCAN_DEVICE double reach(std::size_t p) const {
    const double now = s_.coefficients()[s_.active()[p]];
    return now > 0 ? now / (now - s_.solution()[p]) : 0.0;
  }
  HEADSCAN_DEVICE bool blocks(std::size_t p, double step) const { return s_.solution()[p] <= 0 && reach(p) <= step; }

  // From the feasible fit towards the unconstrained one, as far as all stay non-negative; those that reach zero
  // leave, and on towards the unconstrained fit of the rest.
  HEADSCAN_DEVICE void walk() {
    for (;;) {
      double step = 1;
      for (std::size_t p = 0; p < s_.active_count; ++p) {
        if (s_.solution()[p] <= 0 && reach(p) < step) step = reach(p);
      }
      bool dropped = false;
      for (std::size_t p = 0; p < s_.active_count; ++p) dropped = dropped || blocks(p, step);
      once(team_, [&] {
        for (std::size_t p = 0; p < s_.active_count; ++p) {
          const bool leaves = blocks(p, step);
          double& now = s_.coefficients()[s_.active()[p]];
          now = step == 1 ? s_.solution()[p] : now + step * (s_.solution()[p] - now);
          if (!leaves) continue;
          now = 0;
          s_.is_active()[s_.active()[p]] = 0;
        }
      });
      if (!dropped) return;
      rebuild_active();
      solve_active();
    }
  }

  const Team& team_;
  RefitState& s_;
  const Columns& columns_;
  const RefitOptions& options_;
};

}  // namespace headscan
