// COMP on the GPU: panels of bounded size, each taken through its k rounds of search and refit, all of it enqueued.
#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "cuda/block.cuh"
#include "cuda/query_steps.hpp"
#include "cuda/search_int8.hpp"

namespace headscan::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr std::size_t kTeams = kThreads / WarpTeam::kLanes;

__device__ std::size_t query_of_team() { return blockIdx.x * kTeams + threadIdx.x / WarpTeam::kLanes; }

template <class T>
__global__ void __launch_bounds__(kThreads)
    start_queries(PanelState panel, const T* x, std::size_t stride, std::size_t count) {
  const std::size_t slot = query_of_team();
  if (slot < count) start_query(WarpTeam(), panel, x + slot * stride, slot);
}

// With a number of blocks a multiprocessor named, the compiler takes 128 registers; without, 72, and it spills.
__global__ void __launch_bounds__(kThreads, 4)
    take_atoms(PanelState panel, const float* atoms, std::size_t round, std::size_t count) {
  const std::size_t slot = query_of_team();
  if (slot < count) take_atom(WarpTeam(), panel, atoms, slot, round);
}

__global__ void __launch_bounds__(kThreads)
    write_codes(PanelState panel, std::size_t count, std::size_t first, DeviceCodes codes) {
  const std::size_t slot = query_of_team(), row = first + slot;
  if (slot >= count) return;
  const WarpTeam team;
  write_code(team, panel, slot, codes.indices.data + row * codes.indices.stride,
             codes.coefficients.data + row * codes.coefficients.stride, codes.certified + row);
  if (team.lane() == 0) codes.rescored[row] = panel.rescored[slot];
}

void check(std::size_t x_columns, const CodeLayout& layout, const CompOptions& options) {
  const auto fail = [](const std::string& what) { throw std::invalid_argument(what); };
  const std::size_t fit_width = options.fit_width == 0 ? layout.width : options.fit_width;
  if (options.method != Method::kComp) fail("on CUDA the methods are comp and nnomp; use the CPU for the others");
  if (x_columns != fit_width || x_columns == 0 || fit_width > layout.width) {
    fail("x and atoms must have rows of the same length, got " + std::to_string(x_columns) + " and " +
         std::to_string(layout.width));
  }
  if (options.k < 1 || options.k > layout.rows) {
    fail("k must be from 1 to the number of atoms (" + std::to_string(layout.rows) + "), got " +
         std::to_string(options.k));
  }
  if (!std::isfinite(options.coherence) || options.coherence < 0) {
    fail("coherence must be finite and not negative, got " + std::to_string(options.coherence));
  }
}

// The state of up to `size` queries, in device memory.
class Panel {
 public:
  Panel(const CodeLayout& layout, const CompOptions& options, std::size_t size, cudaStream_t stream)
      : doubles_(size * doubles(layout, options), stream),
        integers_(size * (options.k + 3), stream),
        bad_(size, stream) {
    state_.width = layout.width;
    state_.fit_width = options.fit_width == 0 ? layout.width : options.fit_width;
    state_.k = options.k;
    state_.coherence = options.coherence;
    state_.queries = doubles_.data();
    state_.sums = state_.queries + size * state_.width;
    state_.targets = state_.sums + size * state_.width;
    state_.residuals = state_.targets + size * state_.fit_width;
    state_.basis = state_.residuals + size * state_.fit_width;
    state_.small = state_.basis + size * state_.k * state_.fit_width;
    state_.picked = integers_.data();
    state_.found = state_.picked + size * state_.k;
    state_.active_counts = state_.found + size;
    state_.rescored = state_.active_counts + size;
    state_.bad = bad_.data();
  }

  static std::size_t doubles(const CodeLayout& layout, const CompOptions& options) {  // a query
    return (4 + options.k) * layout.width + RefitState::small_doubles(options.k);
  }
  const PanelState& state() const { return state_; }

 private:
  Buffer<double> doubles_;
  Buffer<std::int64_t> integers_;
  Buffer<std::uint8_t> bad_;
  PanelState state_;
};

// Queries a panel: bounds the working memory of a call to about a gigabyte.
std::size_t panel_size(std::size_t queries, const CodeLayout& layout, const CompOptions& options) {
  constexpr std::size_t kBytes = std::size_t{1} << 30U, kMost = 16384;
  const std::size_t each = SearchInt8::bytes(layout) + Panel::doubles(layout, options) * sizeof(double);
  const std::size_t fitting = kBytes / each / kTileQueries * kTileQueries;
  return std::min(queries, std::clamp(fitting, kTileQueries, kMost));
}

}  // namespace

template <class T>
void comp(MatrixView<const T> x, const Dictionary& dictionary, const DeviceCodes& codes, const CompOptions& options,
          Stream stream_handle) {
  const Dictionary::Arrays& arrays = dictionary.arrays();
  check(x.columns, arrays.layout, options);
  if (x.rows == 0) return;
  const OnDevice on(arrays.device);
  auto* stream = static_cast<cudaStream_t>(stream_handle);
  const std::size_t size = panel_size(x.rows, arrays.layout, options);
  const Panel panel(arrays.layout, options, size, stream);
  SearchInt8 search(arrays, size, stream);
  for (std::size_t first = 0; first < x.rows; first += size) {
    const std::size_t count = std::min(size, x.rows - first);
    const unsigned blocks = blocks_for(count, kTeams);
    start_queries<<<blocks, kThreads, 0, stream>>>(panel.state(), x.row(first), x.stride, count);
    HEADSCAN_CUDA_LAUNCHED("start_queries");
    for (std::size_t round = 0; round < options.k; ++round) {
      search.argmax(panel.state(), count, round);
      take_atoms<<<blocks, kThreads, 0, stream>>>(panel.state(), arrays.atoms.data(), round, count);
      HEADSCAN_CUDA_LAUNCHED("take_atoms");
    }
    write_codes<<<blocks, kThreads, 0, stream>>>(panel.state(), count, first, codes);
    HEADSCAN_CUDA_LAUNCHED("write_codes");
  }
}

template void comp<float>(MatrixView<const float>, const Dictionary&, const DeviceCodes&, const CompOptions&, Stream);
template void comp<double>(MatrixView<const double>, const Dictionary&, const DeviceCodes&, const CompOptions&,
                           Stream);

}  // namespace headscan::cuda
