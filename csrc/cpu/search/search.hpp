// Exact maximum-inner-product search for a panel of queries: the one step of a COMP round that sees every atom.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "common/best.hpp"
#include "common/exact.hpp"
#include "cpu/support/parallel.hpp"
#include "headscan/comp.hpp"
#include "headscan/views.hpp"

namespace headscan {

// The queries of one round and what each has picked in the rounds before.
struct Panel {
  MatrixView<const double> queries;  // (count, width)
  const std::int64_t* picked;        // (count, picked_stride); the first `round` of each row are in use
  std::size_t picked_stride;
  std::size_t round;

  double norm(std::size_t query) const {
    return std::sqrt(dot(queries.row(query), queries.row(query), queries.columns));
  }

  bool has_picked(std::size_t query, std::int64_t atom) const {
    const std::int64_t* row = picked + query * picked_stride;
    for (std::size_t i = 0; i < round; ++i) {
      if (row[i] == atom) return true;
    }
    return false;
  }
};

class Search {
 public:
  virtual ~Search() = default;
  // best[i] = arg-max over atoms that query i has not picked of their float64 inner product with it.
  virtual void argmax(const Panel& panel, Pool& pool, std::int64_t* best) = 0;
  virtual SearchCounters counters() const = 0;
};

}  // namespace headscan
