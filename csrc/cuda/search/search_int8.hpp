// Certified int8 search on the GPU: search_pass.hpp bounds every block of atoms, search_select.hpp decides.
#pragma once

#include "cuda/comp/query_steps.hpp"
#include "cuda/search/chunk_stream.hpp"

namespace headscan::cuda {

class SearchInt8 {
 public:
  // For at most `searches` calls of argmax, with the dictionary's device current.
  SearchInt8(const Dictionary::Arrays& dictionary, std::size_t panel_size, std::size_t searches, cudaStream_t stream);

  // For each of `count` queries, all of which have picked `round` atoms: the arg-max of state.found and this
  // dictionary, and its row if it is of this dictionary.
  void argmax(const SearchState& state, std::size_t count, std::size_t round);

  // Bytes of device memory a query.
  static std::size_t bytes(const Dictionary::Arrays& dictionary);

 private:
  void search(const Chunk& chunk, const SearchState& state, std::size_t count, std::size_t round);

  const Dictionary::Arrays& dictionary_;
  std::size_t padded_;  // queries
  cudaStream_t stream_;
  Buffer<float> rotated_;      // (padded, width)
  Buffer<std::int8_t> codes_;  // (padded, row_bytes)
  Buffer<QueryScale> scales_;  // (padded)
  Buffer<float> bounds_;       // (padded, padded blocks of a chunk)
  ChunkStream chunks_;
};

}  // namespace headscan::cuda
