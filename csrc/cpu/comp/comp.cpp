// COMP for any number of queries: panels of bounded size, each taken through its k rounds of search and refit.
#include "headscan/comp.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/comp/pursuit.hpp"
#include "cpu/kernels/kernels.hpp"
#include "cpu/search/row_source.hpp"
#include "cpu/search/search_f32.hpp"
#include "cpu/search/search_int8.hpp"
#include "cpu/support/parallel.hpp"

namespace headscan {
namespace {

void fail(const std::string& message) { throw std::invalid_argument(message); }

void check(std::size_t x_columns, MatrixView<const float> atoms, const CompOptions& options) {
  check_options(options);
  const std::size_t fit_width = options.fit_width == 0 ? atoms.columns : options.fit_width;
  if (x_columns != fit_width || x_columns == 0 || fit_width > atoms.columns) {
    fail("x and atoms must have rows of the same length, got " + std::to_string(x_columns) + " and " +
         std::to_string(atoms.columns));
  }
  if (options.k > atoms.rows) {
    fail("k must be from 1 to the number of atoms (" + std::to_string(atoms.rows) + "), got " +
         std::to_string(options.k));
  }
  if (fit_width != atoms.columns && options.method != Method::kComp) {
    fail("atoms with a part for coherence alone are for method comp");
  }
}

// Queries a panel: the working memory of a call is bounded by this and does not grow with n.
std::size_t panel_size(std::size_t width, const CompOptions& options) {
  constexpr std::size_t kStateBytes = std::size_t{128} << 20;
  return std::clamp<std::size_t>(kStateBytes / Pursuit::bytes(width, options), 16, 512);
}

template <class T>
SearchCounters run(MatrixView<const T> x, const RowSource& rows, Search& search, Pool& pool, Pursuit& pursuit,
                   std::size_t size, const CodeViews& codes) {
  const std::size_t width = rows.atoms().columns, lanes = pursuit.lanes();
  std::vector<std::int64_t> best(lanes * size);
  std::vector<float> buffers(pool.workers() * width);
  for (std::size_t first = 0; first < x.rows; first += size) {
    const std::size_t count = std::min(size, x.rows - first);
    pursuit.begin(count);
    pool.run(count, [&](std::size_t slot, std::size_t) { pursuit.start(slot, x.row(first + slot), first + slot); });
    for (std::size_t round = 0; round < pursuit.rounds(); ++round) {
      search.argmax(pursuit.view(round), pool, best.data());
      pool.run(count, [&](std::size_t slot, std::size_t worker) {
        const std::int64_t lane_best[2] = {best[slot], best[(lanes - 1) * count + slot]};
        pursuit.take(slot, round, lane_best, rows, &buffers[worker * width]);
      });
    }
    for (std::size_t slot = 0; slot < count; ++slot) {
      pursuit.write(slot, codes.indices.row(first + slot), codes.coefficients.row(first + slot),
                    codes.certified + first + slot);
    }
  }
  return search.counters();
}

}  // namespace

void check_options(const CompOptions& options) {
  if (options.k < 1) fail("k must be at least 1, got 0");
  if (!(options.coherence >= 0 && options.coherence <= kMostCoherence)) {
    std::ostringstream message;
    message << "coherence must be from 0 to " << kMostCoherence << ", got " << options.coherence;
    fail(message.str());
  }
  if (!std::isfinite(options.penalty) || options.penalty < 0) {
    fail("penalty must be finite and not negative, got " + std::to_string(options.penalty));
  }
}

template <class T>
SearchCounters comp(MatrixView<const T> x, MatrixView<const float> atoms, const CodeViews& codes,
                    const CompOptions& options) {
  check(x.columns, atoms, options);
  Pool pool(options.threads, options.interrupt);
  SearchF32 search(atoms, active_kernels().dense, pool);
  const std::size_t size = std::min(x.rows, panel_size(atoms.columns, options));
  Pursuit pursuit(size, atoms.columns, options);
  return run(x, RowSource(atoms), search, pool, pursuit, size, codes);
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
  check_layout(packed);
  constexpr std::size_t kKeptBytes = std::size_t{192} << 20;
  Pool pool(options.threads, options.interrupt);
  const RowSource rows(dictionary.atoms, dictionary.files);
  const std::size_t lanes = Pursuit::lanes(options);
  const std::size_t size =
      std::min({x.rows, panel_size(packed.width, options), SearchInt8::panel_size(packed, kKeptBytes) / lanes});
  Pursuit pursuit(size, packed.width, options);
  SearchInt8 search(packed, rows, lanes * size, active_kernels());
  return run(x, rows, search, pool, pursuit, size, codes);
}

#define HEADSCAN_INSTANTIATE(T)                                                                   \
  template SearchCounters comp<T>(MatrixView<const T>, MatrixView<const float>, const CodeViews&, \
                                  const CompOptions&);                                            \
  template SearchCounters comp<T>(MatrixView<const T>, const PackedDictionary&, const CodeViews&, const CompOptions&);
HEADSCAN_INSTANTIATE(float)
HEADSCAN_INSTANTIATE(double)

}  // namespace headscan
