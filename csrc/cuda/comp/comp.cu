// COMP on the GPU: panels of bounded size, each taken through its k rounds of search and refit, all of it enqueued.
#include <algorithm>
#include <cmath>
#include <deque>
#include <stdexcept>
#include <string>

#include "cuda/comp/other_part.hpp"
#include "cuda/support/block.cuh"

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
__global__ void __launch_bounds__(kThreads, 4) take_atoms(PanelState panel, std::size_t round, std::size_t count) {
  const std::size_t slot = query_of_team();
  if (slot < count) take_atom(WarpTeam(), panel, slot, round);
}

__global__ void __launch_bounds__(kThreads)
    merge_parts(PanelState panel, OtherResults others, std::size_t round, std::size_t count) {
  const std::size_t slot = query_of_team();
  if (slot < count) merge_found(WarpTeam(), panel, others, slot, round);
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

using Parts = std::vector<const Dictionary*>;

void check(std::size_t x_columns, const Parts& parts, const CompOptions& options) {
  const auto fail = [](const std::string& what) { throw std::invalid_argument(what); };
  check_options(options);
  if (parts.empty()) fail("a dictionary has at least one part");
  const CodeLayout& layout = parts.front()->arrays().layout;
  std::size_t rows = 0;
  for (const Dictionary* part : parts) {
    rows += part->arrays().layout.rows;
    if (part->arrays().layout.width != layout.width) fail("all parts of a dictionary have rows of one length");
  }
  const std::size_t fit_width = options.fit_width == 0 ? layout.width : options.fit_width;
  if (options.method != Method::kComp) fail("on CUDA the methods are comp and nnomp; use the CPU for the others");
  if (x_columns != fit_width || x_columns == 0 || fit_width > layout.width) {
    fail("x and atoms must have rows of the same length, got " + std::to_string(x_columns) + " and " +
         std::to_string(layout.width));
  }
  if (options.k > rows) {
    fail("k must be from 1 to the number of atoms (" + std::to_string(rows) + "), got " + std::to_string(options.k));
  }
}

// The state of up to `size` queries, in device memory.
class Panel {
 public:
  Panel(const CodeLayout& layout, const CompOptions& options, std::size_t size, cudaStream_t stream)
      : doubles_(size * doubles(layout, options), stream),
        integers_(size * (options.k + 2), stream),
        rows_(size * options.k * layout.width, stream),
        found_(size, stream),
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
    state_.active_counts = state_.picked + size * state_.k;
    state_.rescored = state_.active_counts + size;
    state_.rows = rows_.data();
    state_.found = found_.data();
    state_.bad = bad_.data();
  }

  static std::size_t bytes(const CodeLayout& layout, const CompOptions& options) {  // a query
    return doubles(layout, options) * sizeof(double) + options.k * layout.width * sizeof(float);
  }
  const PanelState& state() const { return state_; }

 private:
  static std::size_t doubles(const CodeLayout& layout, const CompOptions& options) {
    return (4 + options.k) * layout.width + RefitState::small_doubles(options.k);
  }

  Buffer<double> doubles_;
  Buffer<std::int64_t> integers_;
  Buffer<float> rows_;
  Buffer<Best> found_;
  Buffer<std::uint8_t> bad_;
  PanelState state_;
};

// The parts of the dictionary beside the first, and what they found.
class OtherParts {
 public:
  OtherParts(const Parts& parts, const PanelState& panel, std::size_t size, std::size_t searches, cudaStream_t stream)
      : found_((parts.size() - 1) * size, stream),
        rows_((parts.size() - 1) * size * panel.width, stream),
        rescored_((parts.size() - 1) * size, stream),
        results_{found_.data(), rows_.data(), rescored_.data(), parts.size() - 1, size} {
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const OtherPart::Output to{found_.data() + i * size, rows_.data() + i * size * panel.width,
                                 rescored_.data() + i * size};
      parts_.emplace_back(parts[i + 1]->arrays(), panel, size, searches, stream, parts[0]->device(), to);
    }
  }

  // Bytes of the panel's device memory a query.
  static std::size_t bytes(const Parts& parts, std::size_t width) {
    return (parts.size() - 1) * (sizeof(Best) + width * sizeof(float) + sizeof(std::int64_t));
  }
  void search(std::size_t count, std::size_t round) {
    for (OtherPart& part : parts_) part.search(count, round);
  }
  void merge(const PanelState& panel, std::size_t count, std::size_t round, cudaStream_t stream) const {
    if (parts_.empty()) return;
    for (const OtherPart& part : parts_) part.let_main_wait();
    merge_parts<<<blocks_for(count, kTeams), kThreads, 0, stream>>>(panel, results_, round, count);
    HEADSCAN_CUDA_LAUNCHED("merge_parts");
  }

 private:
  Buffer<Best> found_;
  Buffer<float> rows_;
  Buffer<std::int64_t> rescored_;
  OtherResults results_;
  std::deque<OtherPart> parts_;
};

// Queries a panel: bounds the working memory of a call to about two gigabytes a device.
std::size_t panel_size(std::size_t queries, const Parts& parts, const CompOptions& options) {
  constexpr std::size_t kBytes = std::size_t{2} << 30U, kMost = 16384;
  const CodeLayout& layout = parts.front()->arrays().layout;
  std::size_t search = 0;
  for (const Dictionary* part : parts) search = std::max(search, SearchInt8::bytes(part->arrays()));
  const std::size_t each = search + Panel::bytes(layout, options) + OtherParts::bytes(parts, layout.width);
  const std::size_t fitting = kBytes / each / kTileQueries * kTileQueries;
  return std::min(queries, std::clamp(fitting, kTileQueries, kMost));
}

}  // namespace

template <class T>
void comp(MatrixView<const T> x, const std::vector<const Dictionary*>& parts, const DeviceCodes& codes,
          const CompOptions& options, Stream stream_handle) {
  check(x.columns, parts, options);
  if (x.rows == 0) return;
  const Dictionary::Arrays& own = parts.front()->arrays();
  const OnDevice on(own.device);
  auto* stream = static_cast<cudaStream_t>(stream_handle);
  const std::size_t size = panel_size(x.rows, parts, options);
  const std::size_t searches = (x.rows + size - 1) / size * options.k;
  const Panel panel(own.layout, options, size, stream);
  SearchInt8 search(own, size, searches, stream);
  OtherParts others(parts, panel.state(), size, searches, stream);
  for (std::size_t first = 0; first < x.rows; first += size) {
    const std::size_t count = std::min(size, x.rows - first);
    const unsigned blocks = blocks_for(count, kTeams);
    start_queries<<<blocks, kThreads, 0, stream>>>(panel.state(), x.row(first), x.stride, count);
    HEADSCAN_CUDA_LAUNCHED("start_queries");
    for (std::size_t round = 0; round < options.k; ++round) {
      others.search(count, round);
      search.argmax(panel.state().search(round), count, round);
      others.merge(panel.state(), count, round, stream);
      take_atoms<<<blocks, kThreads, 0, stream>>>(panel.state(), round, count);
      HEADSCAN_CUDA_LAUNCHED("take_atoms");
    }
    write_codes<<<blocks, kThreads, 0, stream>>>(panel.state(), count, first, codes);
    HEADSCAN_CUDA_LAUNCHED("write_codes");
  }
}

template void comp<float>(MatrixView<const float>, const std::vector<const Dictionary*>&, const DeviceCodes&,
                          const CompOptions&, Stream);
template void comp<double>(MatrixView<const double>, const std::vector<const Dictionary*>&, const DeviceCodes&,
                           const CompOptions&, Stream);

}  // namespace headscan::cuda
