// What the methods do between searches: take the best atom, refit, and say what to search for next.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/comp/refit.hpp"
#include "cpu/search/row_source.hpp"
#include "cpu/search/search.hpp"
#include "headscan/comp.hpp"

namespace headscan {

// The state of a panel of queries. A query searches one row of `view().queries`, or two where the method wants the
// largest magnitude: one with each sign.
class Pursuit {
 public:
  Pursuit(std::size_t panel_size, std::size_t width, const CompOptions& options);

  // Bytes of state a query, for choosing a panel size.
  static std::size_t bytes(std::size_t width, const CompOptions& options);

  static std::size_t lanes(const CompOptions& options) { return options.method == Method::kOmp ? 2 : 1; }
  std::size_t lanes() const { return lanes(options_); }

  // Searches to run: the lasso needs one more than it may pick, to see that nothing is left to pick.
  std::size_t rounds() const { return options_.k + (options_.method == Method::kLasso ? 1 : 0); }

  void begin(std::size_t count) { count_ = count; }
  template <class T>
  void start(std::size_t slot, const T* x, std::size_t row);
  Panel view(std::size_t round) const;

  // Takes what the round found for a query (one index a lane) into its code; buffer holds one row.
  void take(std::size_t slot, std::size_t round, const std::int64_t* best, const RowSource& rows, float* buffer);

  void write(std::size_t slot, std::int64_t* indices, double* coefficients, std::uint8_t* certified) const;

 private:
  double* query(std::size_t lane, std::size_t slot) { return &queries_[(lane * count_ + slot) * width_]; }
  void record(std::size_t slot, std::size_t round, std::int64_t index);
  void next_comp(std::size_t slot, const float* atom);
  void take_unfitted(std::size_t slot, std::size_t round, const float* atom);
  std::int64_t larger_magnitude(std::size_t slot, const std::int64_t* best, const RowSource& rows, float* buffer);

  CompOptions options_;
  std::size_t width_, fit_width_, count_ = 0;
  std::vector<double> queries_, sums_;  // (lanes * size, width), (size, width)
  std::vector<std::int64_t> picked_;    // (lanes * size, k)
  std::vector<double> unfitted_;        // (size, k): coefficients of methods that do not refit
  std::vector<std::uint8_t> done_;      // (size): nothing is left to pick
  std::vector<Refit> fits_;
};

}  // namespace headscan
