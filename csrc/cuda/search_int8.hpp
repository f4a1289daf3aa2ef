// Certified int8 search on the GPU: search_pass.hpp bounds every block of atoms, search_select.hpp decides.
#pragma once

#include "cuda/device.hpp"
#include "cuda/dictionary.hpp"
#include "cuda/query_steps.hpp"

namespace headscan::cuda {

class SearchInt8 {
 public:
  SearchInt8(const Dictionary::Arrays& dictionary, std::size_t panel_size, cudaStream_t stream);

  // panel.found = the arg-max for each of `count` queries, all of which have picked `round` atoms.
  void argmax(const PanelState& panel, std::size_t count, std::size_t round);

  // Bytes of device memory a query.
  static std::size_t bytes(const CodeLayout& layout);

 private:
  const Dictionary::Arrays& dictionary_;
  std::size_t padded_;  // queries
  cudaStream_t stream_;
  Buffer<float> rotated_;      // (padded, width)
  Buffer<std::int8_t> codes_;  // (padded, row_bytes)
  Buffer<QueryScale> scales_;  // (padded)
  Buffer<float> bounds_;       // (padded, padded blocks)
};

}  // namespace headscan::cuda
