#include "cpu/comp/refit.hpp"

#include <algorithm>

#include "common/team.hpp"

namespace headscan {

Refit::Refit(std::size_t width, std::size_t capacity, const Options& options)
    : options_(options),
      vectors_((2 + capacity) * width),
      columns_(capacity * width),
      small_(RefitState::small_doubles(capacity)) {
  state_.width = width;
  state_.capacity = capacity;
  state_.target = vectors_.data();
  state_.residual = state_.target + width;
  state_.basis = state_.residual + width;
  state_.small = small_.data();
}

void Refit::reset(const double* target) {
  std::copy_n(target, state_.width, state_.target);
  std::copy_n(target, state_.width, state_.residual);
  state_.count = state_.active_count = 0;
}

void Refit::add(const float* atom) {
  std::copy_n(atom, state_.width, &columns_[state_.count * state_.width]);
  const auto columns = [this](std::size_t column) { return &columns_[column * state_.width]; };
  const SerialTeam team;
  RefitSteps(team, state_, columns, options_).add();
}

}  // namespace headscan
