// COMP for any number of queries: panels of bounded size, each taken through its k rounds of search and refit.
#include "headscan/comp.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/nnls.hpp"
#include "cpu/parallel.hpp"
#include "cpu/row_source.hpp"
#include "cpu/search_f32.hpp"
#include "cpu/search_int8.hpp"

namespace headscan {
namespace {

void check(std::size_t x_columns, MatrixView<const float> atoms, const CompOptions& options) {
  const auto fail = [](const std::string& what) { throw std::invalid_argument(what); };
  if (x_columns != atoms.columns || x_columns == 0) {
    fail("x and atoms must have rows of the same length, got " + std::to_string(x_columns) + " and " +
         std::to_string(atoms.columns));
  }
  if (options.k < 1 || options.k > atoms.rows) {
    fail("k must be from 1 to the number of atoms (" + std::to_string(atoms.rows) + "), got " +
         std::to_string(options.k));
  }
  if (!std::isfinite(options.coherence) || options.coherence < 0) {
    fail("coherence must be finite and not negative, got " + std::to_string(options.coherence));
  }
}

// Queries a panel: the working memory of a call is bounded by this and does not grow with n.
std::size_t panel_size(std::size_t width, std::size_t k) {
  constexpr std::size_t kStateBytes = std::size_t{128} << 20;
  return std::clamp<std::size_t>(kStateBytes / (width * (2 * k + 6) * sizeof(double)), 16, 1024);
}

class PanelState {
 public:
  PanelState(std::size_t size, std::size_t width, const CompOptions& options)
      : width_(width), options_(options), queries_(size * width), sums_(size * width), picked_(size * options.k) {
    for (std::size_t i = 0; i < size; ++i) fits_.emplace_back(width, options.k);
  }

  template <class T>
  void start(std::size_t slot, const T* x, std::size_t row) {
    double* q = &queries_[slot * width_];
    for (std::size_t i = 0; i < width_; ++i) {
      q[i] = static_cast<double>(x[i]);
      if (!std::isfinite(q[i])) {
        throw std::invalid_argument("x must be finite; row " + std::to_string(row) + " holds NaN or infinity");
      }
    }
    std::fill_n(&sums_[slot * width_], width_, 0.0);
    fits_[slot].reset(q);
  }

  // Adds the pick, refits, and leaves the next round's query: residual + (coherence / |S|) * sum of S.
  void take(std::size_t slot, const float* atom, std::int64_t index) {
    Nnls& fit = fits_[slot];
    picked_[slot * options_.k + fit.count()] = index;
    fit.add(atom);
    const double weight = options_.coherence / static_cast<double>(fit.count());
    for (std::size_t i = 0; i < width_; ++i) {
      double& sum = sums_[slot * width_ + i];
      sum += static_cast<double>(atom[i]);
      queries_[slot * width_ + i] = fit.residual()[i] + weight * sum;
    }
  }

  Panel view(std::size_t count, std::size_t round) const {
    return {{queries_.data(), count, width_, width_}, picked_.data(), options_.k, round};
  }

  void write(std::size_t slot, std::int64_t* indices, double* coefficients) const {
    std::copy_n(&picked_[slot * options_.k], options_.k, indices);
    std::copy_n(fits_[slot].coefficients(), options_.k, coefficients);
  }

 private:
  std::size_t width_;
  const CompOptions& options_;
  std::vector<double> queries_, sums_;  // (size, width)
  std::vector<std::int64_t> picked_;    // (size, k)
  std::vector<Nnls> fits_;
};

template <class T>
SearchCounters run(MatrixView<const T> x, const RowSource& rows, Search& search, Pool& pool, std::size_t size,
                   const CodeViews& codes, const CompOptions& options) {
  PanelState state(size, x.columns, options);
  std::vector<std::int64_t> best(size);
  std::vector<float> buffers(pool.workers() * x.columns);
  for (std::size_t first = 0; first < x.rows; first += size) {
    if (options.between_panels) options.between_panels();
    const std::size_t count = std::min(size, x.rows - first);
    pool.run(count, [&](std::size_t slot, std::size_t) { state.start(slot, x.row(first + slot), first + slot); });
    for (std::size_t round = 0; round < options.k; ++round) {
      search.argmax(state.view(count, round), pool, best.data());
      pool.run(count, [&](std::size_t slot, std::size_t worker) {
        state.take(slot, rows.fetch(best[slot], &buffers[worker * x.columns]), best[slot]);
      });
    }
    for (std::size_t slot = 0; slot < count; ++slot) {
      state.write(slot, codes.indices.row(first + slot), codes.coefficients.row(first + slot));
      codes.certified[first + slot] = 1;  // both searches decide in float64 among all that their bounds let through
    }
  }
  return search.counters();
}

}  // namespace

template <class T>
SearchCounters comp(MatrixView<const T> x, MatrixView<const float> atoms, const CodeViews& codes,
                    const CompOptions& options) {
  check(x.columns, atoms, options);
  Pool pool(options.threads);
  SearchF32 search(atoms, pool);
  const std::size_t size = std::min({x.rows, panel_size(x.columns, options.k), std::size_t{512}});
  return run(x, RowSource(atoms), search, pool, size, codes, options);
}

template <class T>
SearchCounters comp(MatrixView<const T> x, const PackedDictionary& dictionary, const CodeViews& codes,
                    const CompOptions& options) {
  const PackedAtoms& packed = dictionary.packed;
  check(x.columns, dictionary.atoms, options);
  if (packed.rows != dictionary.atoms.rows || packed.width != dictionary.atoms.columns) {
    throw std::invalid_argument("the packed form belongs to another dictionary: it has " +
                                std::to_string(packed.rows) + " atoms of " + std::to_string(packed.width) +
                                " values");
  }
  constexpr std::size_t kKeptBytes = std::size_t{512} << 20;
  Pool pool(options.threads);
  const RowSource rows(dictionary.atoms, dictionary.descriptor, dictionary.offset_bytes);
  const std::size_t size =
      std::min({x.rows, panel_size(x.columns, options.k), SearchInt8::panel_size(packed, kKeptBytes)});
  SearchInt8 search(packed, rows, size);
  return run(x, rows, search, pool, size, codes, options);
}

#define HEADSCAN_INSTANTIATE(T)                                                                   \
  template SearchCounters comp<T>(MatrixView<const T>, MatrixView<const float>, const CodeViews&, \
                                  const CompOptions&);                                            \
  template SearchCounters comp<T>(MatrixView<const T>, const PackedDictionary&, const CodeViews&, const CompOptions&);
HEADSCAN_INSTANTIATE(float)
HEADSCAN_INSTANTIATE(double)

}  // namespace headscan
