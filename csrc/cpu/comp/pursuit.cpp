#include "cpu/comp/pursuit.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "common/exact.hpp"

namespace headscan {
namespace {

constexpr double kPenaltyMet = 1 + 1e-12;  // a slope this close to the penalty is rounding

Refit::Options refit_options(const CompOptions& options) {
  return {options.method != Method::kOmp, options.method == Method::kLasso ? options.penalty : 0.0};
}

bool refits(Method method) { return method != Method::kNearest && method != Method::kMp; }

}  // namespace

Pursuit::Pursuit(std::size_t panel_size, std::size_t width, const CompOptions& options)
    : options_(options),
      width_(width),
      fit_width_(options.fit_width == 0 ? width : options.fit_width),
      queries_(lanes() * panel_size * width),
      sums_(panel_size * width),
      picked_(lanes() * panel_size * options.k, -1),
      unfitted_(panel_size * options.k),
      done_(panel_size) {
  for (std::size_t i = 0; i < panel_size; ++i) fits_.emplace_back(fit_width_, options.k, refit_options(options));
}

std::size_t Pursuit::bytes(std::size_t width, const CompOptions& options) {
  return width * (2 * options.k + 8) * sizeof(double);
}

template <class T>
void Pursuit::start(std::size_t slot, const T* x, std::size_t row) {
  double* q = query(0, slot);
  std::fill_n(q, width_, 0.0);
  for (std::size_t i = 0; i < fit_width_; ++i) {
    q[i] = static_cast<double>(x[i]);
    if (!std::isfinite(q[i])) {
      throw std::invalid_argument("x must be finite; row " + std::to_string(row) + " holds NaN or infinity");
    }
  }
  if (!(dot(q, q, width_) < 1e30)) {  // what float32 searches can take
    throw std::invalid_argument("x is far too long in row " + std::to_string(row) + ": its norm must be below 1e15");
  }
  if (lanes() == 2) std::transform(q, q + width_, query(1, slot), std::negate<>());
  std::fill_n(&sums_[slot * width_], width_, 0.0);
  done_[slot] = 0;
  fits_[slot].reset(q);
}
template void Pursuit::start<float>(std::size_t, const float*, std::size_t);
template void Pursuit::start<double>(std::size_t, const double*, std::size_t);

Panel Pursuit::view(std::size_t round) const {
  return {
      {queries_.data(), lanes() * count_, width_, width_}, picked_.data(), options_.k, std::min(round, options_.k)};
}

void Pursuit::record(std::size_t slot, std::size_t round, std::int64_t index) {
  for (std::size_t lane = 0; lane < lanes(); ++lane) picked_[(lane * count_ + slot) * options_.k + round] = index;
}

// Of the best atom for the residual and the best one for its opposite, that with the larger inner product.
std::int64_t Pursuit::larger_magnitude(std::size_t slot, const std::int64_t* best, const RowSource& rows,
                                       float* buffer) {
  double scores[2];
  for (std::size_t lane = 0; lane < 2; ++lane) {
    scores[lane] = dot(rows.fetch(best[lane], buffer), query(lane, slot), fit_width_);
  }
  if (scores[0] == scores[1]) return std::min(best[0], best[1]);
  return scores[0] > scores[1] ? best[0] : best[1];
}

void Pursuit::take(std::size_t slot, std::size_t round, const std::int64_t* best, const RowSource& rows,
                   float* buffer) {
  const std::int64_t index = lanes() == 2 ? larger_magnitude(slot, best, rows, buffer) : best[0];
  const float* atom = rows.fetch(index, buffer);
  if (options_.method == Method::kLasso) {
    if (dot(atom, query(0, slot), fit_width_) <= options_.penalty * kPenaltyMet) done_[slot] = 1;
  }
  if (round == options_.k) return;
  record(slot, round, done_[slot] != 0 ? -1 : index);
  if (done_[slot] != 0) return;
  if (!refits(options_.method)) {
    take_unfitted(slot, round, atom);
    return;
  }
  Refit& fit = fits_[slot];
  fit.add(atom);
  if (options_.method == Method::kTopK) return;  // the next one is looked for with x itself
  if (options_.method == Method::kComp) {
    next_comp(slot, atom);
  } else {
    std::copy_n(fit.residual(), fit_width_, query(0, slot));
    if (lanes() == 2) std::transform(fit.residual(), fit.residual() + fit_width_, query(1, slot), std::negate<>());
  }
}

// The next query: residual + (coherence / |S|) * sum of S, the sum over the coherence part of an atom if it has one.
void Pursuit::next_comp(std::size_t slot, const float* atom) {
  const Refit& fit = fits_[slot];
  const double weight = options_.coherence / static_cast<double>(fit.count());
  double* q = query(0, slot);
  std::copy_n(fit.residual(), fit_width_, q);
  for (std::size_t i = fit_width_ < width_ ? fit_width_ : 0; i < width_; ++i) {
    double& sum = sums_[slot * width_ + i];
    sum += static_cast<double>(atom[i]);
    q[i] = (i < fit_width_ ? fit.residual()[i] : 0.0) + weight * sum;
  }
  if (!(dot(q, q, width_) < 1e30)) {  // what float32 searches can take
    throw std::invalid_argument("coherence times the length of the atoms is far too large: normalise the atoms");
  }
}

void Pursuit::take_unfitted(std::size_t slot, std::size_t round, const float* atom) {
  double* q = query(0, slot);
  double square = 0;
  for (std::size_t i = 0; i < width_; ++i) square += static_cast<double>(atom[i]) * static_cast<double>(atom[i]);
  const double score = std::max(0.0, dot(atom, q, width_));
  const double coefficient = square > 0 ? score / square : 0.0;
  unfitted_[slot * options_.k + round] = coefficient;
  if (options_.method == Method::kNearest) return;
  for (std::size_t i = 0; i < width_; ++i) q[i] -= coefficient * static_cast<double>(atom[i]);
}

void Pursuit::write(std::size_t slot, std::int64_t* indices, double* coefficients, std::uint8_t* certified) const {
  std::copy_n(&picked_[slot * options_.k], options_.k, indices);
  std::fill_n(coefficients, options_.k, 0.0);
  if (refits(options_.method)) {
    std::copy_n(fits_[slot].coefficients(), fits_[slot].count(), coefficients);
  } else {
    std::copy_n(&unfitted_[slot * options_.k], options_.k, coefficients);
  }
  // Both searches decide in float64 among all that their bounds let through; a lasso code must be its minimum too.
  *certified = options_.method == Method::kLasso ? done_[slot] : 1;
}

}  // namespace headscan
