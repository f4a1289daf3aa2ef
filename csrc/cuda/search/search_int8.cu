#include "cuda/search/search_int8.hpp"
#include "cuda/search/search_pass.hpp"
#include "cuda/search/search_select.hpp"
#include "cuda/support/block.cuh"

namespace headscan::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr std::size_t kTeams = kThreads / WarpTeam::kLanes;
static_assert(kTeams == kSelectTeams, "a team each");
using TileShared = PassShared<kAtomWarps, kQueryWarps>;

__global__ void __launch_bounds__(256) rotate_queries(const double* queries, const float* rotation, std::size_t count,
                                                      std::size_t width, float* rotated) {
  __shared__ RotateShared shared;
  rotate_tile(DeviceBlock(), shared, queries, rotation, count, width, blockIdx.y * kRotateTile,
              blockIdx.x * kRotateTile, rotated);
}

__global__ void __launch_bounds__(kThreads)
    quantise_queries(CodeLayout layout, const double* queries, const float* rotated, std::size_t count,
                     std::int8_t* codes, QueryScale* scales) {
  const std::size_t query = blockIdx.x * kTeams + threadIdx.x / WarpTeam::kLanes;
  if (query >= count) return;
  quantise_query(WarpTeam(), layout, queries + query * layout.width, rotated + query * layout.width,
                 codes + query * layout.row_bytes, scales + query);
}

// Tiles of all queries over the same atoms run at about the same time, so that atoms come from memory once.
__global__ void __launch_bounds__(32 * kAtomWarps * kQueryWarps, 1) bound_blocks(PassInput in, unsigned query_tiles) {
  extern __shared__ __align__(16) unsigned char memory[];
  bound_tile<kAtomWarps, kQueryWarps>(DeviceBlock(), *reinterpret_cast<TileShared*>(memory), in,
                                      blockIdx.x / query_tiles * kTileAtoms, blockIdx.x % query_tiles * kTileQueries);
}

// Named a number of blocks a multiprocessor, the compiler takes the registers it needs; without, 64, and it spills.
__global__ void __launch_bounds__(kThreads, 6) select_queries(SelectInput in) {
  __shared__ SelectShared shared;
  select_best(DeviceBlock(), shared, in, blockIdx.x);
}

std::size_t padded_blocks(const Dictionary::Arrays& dictionary) { return dictionary.chunk_layout(0).padded_blocks(); }

}  // namespace

SearchInt8::SearchInt8(const Dictionary::Arrays& dictionary, std::size_t panel_size, std::size_t searches,
                       cudaStream_t stream)
    : dictionary_(dictionary),
      padded_(rounded_to(panel_size, kTileQueries)),
      stream_(stream),
      rotated_(padded_ * dictionary.layout.width, stream),
      codes_(padded_ * dictionary.layout.row_bytes, stream),
      scales_(padded_, stream),
      bounds_(padded_ * padded_blocks(dictionary), stream),
      chunks_(dictionary, searches, stream) {
  allow_shared(bound_blocks, sizeof(TileShared));
  // Rows that fill the last tile: zero codes, bounds of zero that nobody reads.
  HEADSCAN_CUDA_CHECK(cudaMemsetAsync(codes_.data(), 0, padded_ * dictionary.layout.row_bytes, stream));
  HEADSCAN_CUDA_CHECK(cudaMemsetAsync(scales_.data(), 0, padded_ * sizeof(QueryScale), stream));
}

std::size_t SearchInt8::bytes(const Dictionary::Arrays& dictionary) {
  return dictionary.layout.width * sizeof(float) + dictionary.layout.row_bytes + sizeof(QueryScale) +
         padded_blocks(dictionary) * sizeof(float);
}

void SearchInt8::argmax(const SearchState& state, std::size_t count, std::size_t round) {
  const CodeLayout& layout = dictionary_.layout;
  const dim3 rotate_grid(blocks_for(layout.width, kRotateTile), blocks_for(count, kRotateTile));
  rotate_queries<<<rotate_grid, 256, 0, stream_>>>(state.queries, dictionary_.rotation.data(), count, layout.width,
                                                   rotated_.data());
  HEADSCAN_CUDA_LAUNCHED("rotate_queries");
  quantise_queries<<<blocks_for(count, kTeams), kThreads, 0, stream_>>>(layout, state.queries, rotated_.data(), count,
                                                                        codes_.data(), scales_.data());
  HEADSCAN_CUDA_LAUNCHED("quantise_queries");
  for (std::size_t i = 0; i < dictionary_.chunks(); ++i) search(chunks_.next(), state, count, round);
}

void SearchInt8::search(const Chunk& chunk, const SearchState& state, std::size_t count, std::size_t round) {
  const CodeLayout& layout = chunk.layout;
  const PassInput pass{chunk.codes,      chunk.scale,         chunk.error,    codes_.data(),  scales_.data(),
                       layout.row_bytes, layout.coarse_bytes, layout.shift(), bounds_.data(), layout.padded_blocks()};
  const unsigned query_tiles = blocks_for(count, kTileQueries);
  const auto tiles = static_cast<unsigned>(layout.padded_rows() / kTileAtoms) * query_tiles;
  bound_blocks<<<tiles, 32 * kAtomWarps * kQueryWarps, sizeof(TileShared), stream_>>>(pass, query_tiles);
  HEADSCAN_CUDA_LAUNCHED("bound_blocks");
  const auto first = static_cast<std::int64_t>(dictionary_.first + chunk.first);
  const SelectInput select{layout,        first,          chunk.codes,    chunk.scale, chunk.error, chunk.atoms,
                           codes_.data(), scales_.data(), bounds_.data(), state,       round};
  select_queries<<<static_cast<unsigned>(count), kThreads, 0, stream_>>>(select);
  HEADSCAN_CUDA_LAUNCHED("select_queries");
}

}  // namespace headscan::cuda
