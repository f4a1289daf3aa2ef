// Coherent orthogonal matching pursuit (COMP, arXiv 2603.24653): sparse, non-negative, coherent codes.
#pragma once

#include <cstdint>
#include <functional>

#include "headscan/pack.hpp"
#include "headscan/views.hpp"

namespace headscan {

// How atoms are picked, one a round and none twice, and how their coefficients are fitted:
//   kComp   highest inner product with residual + coherence; non-negative least squares (coherence 0: NNOMP)
//   kTopK   highest inner product with x; non-negative least squares
//   kNearest  the same atoms with the inner products themselves, at least 0: a search, no code
//   kMp     highest inner product with the residual; non-negative, never refitted
//   kOmp    largest magnitude of the inner product with the residual; unconstrained least squares
//   kLasso  min 1/2 |x - sum c g|^2 + penalty * sum c over c >= 0 (SpLiCE's objective), by active set; where fewer
//           than k atoms are needed, the rest have index -1; certified only where k atoms were enough
enum class Method : std::uint8_t { kComp, kTopK, kNearest, kMp, kOmp, kLasso };

inline constexpr double kMostCoherence = 1e6;  // beyond, nothing of the residual would count

struct CompOptions {
  std::size_t k = 5;       // atoms per code
  double coherence = 0.3;  // lambda: weight of the mean similarity to the atoms already picked; 0 is NNOMP
  Method method = Method::kComp;
  double penalty = 0.25;      // of the lasso
  std::size_t fit_width = 0;  // 0: all; else what x has: values of an atom past it serve the coherence term alone
  int threads = 0;            // 0: all that default_threads() names
  std::function<void()> interrupt;  // called on the calling thread every now and then; may throw to stop early
};

// Throws std::invalid_argument where an option is out of range for any dictionary.
void check_options(const CompOptions& options);

// Where the codes go; callers own the memory.
struct CodeViews {
  MatrixView<std::int64_t> indices;   // (n, k) in the order of picking
  MatrixView<double> coefficients;    // (n, k), >= 0
  std::uint8_t* certified = nullptr;  // (n) 1: every pick is proven to be the float64 arg-max
};

// How the picks of a call were reached.
struct SearchCounters {
  std::uint64_t multiply_adds = 0;  // of the searches, padding included; one full pass is n * atoms * width
  std::uint64_t rescored = 0;       // atoms scored in float64
  std::uint64_t fallbacks = 0;      // (query, round) pairs that a certificate could not narrow down: plainly scanned
};

// Open files that hold the rows of a dictionary, `rows` each but for the last, from `offset_bytes` of each file on.
struct RowFiles {
  const int* descriptors = nullptr;  // none: the rows are in memory
  std::size_t rows = 0;
  std::size_t offset_bytes = 0;
};

// A packed dictionary and its full-precision rows, which files may serve in place of memory: then `atoms` must map
// the same values.
struct PackedDictionary {
  PackedAtoms packed;
  MatrixView<const float> atoms;
  RowFiles files;
};

// One code per row of x over the rows of `atoms` (unit rows, or zero rows, which never beat a positive score).
//
// A round picks argmax_i <g_i, q> over atoms not picked yet, ties to the lowest index, with
// q = residual + (coherence / |S|) * sum of the picked atoms; then refits all coefficients by non-negative
// least squares. Throws std::invalid_argument on shapes that do not fit, NaN, infinity and k > atoms.rows.
template <class T>
SearchCounters comp(MatrixView<const T> x, MatrixView<const float> atoms, const CodeViews& codes,
                    const CompOptions& options = {});

// The same picks by the certified int8 search.
template <class T>
SearchCounters comp(MatrixView<const T> x, const PackedDictionary& dictionary, const CodeViews& codes,
                    const CompOptions& options = {});

}  // namespace headscan
