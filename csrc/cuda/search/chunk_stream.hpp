// The chunks of a dictionary for one search after another: as they lie where all codes are in device memory, else
// through two buffers.
#pragma once

#include <optional>

#include "cuda/search/chunk_ring.hpp"
#include "cuda/search/dictionary.hpp"
#include "cuda/support/side_stream.hpp"

namespace headscan::cuda {

class ChunkStream {
 public:
  // For `searches` over all chunks, enqueued on `main`. The dictionary's device must be current while it lives.
  ChunkStream(const Dictionary::Arrays& dictionary, std::size_t searches, cudaStream_t main)
      : dictionary_(dictionary),
        buffers_(dictionary.placement.codes_there ? 0 : 2 * dictionary.chunk_image_bytes(), main) {
    if (dictionary.placement.codes_there) return;
    copies_.emplace(dictionary, buffers_.data(), main);
    ring_.emplace(*copies_, dictionary.chunks(), searches * dictionary.chunks());
  }

  // The next chunk, in order and from the start again after the last; for what `main` gets until the next call.
  Chunk next() {
    if (!ring_) return dictionary_.chunk(0, dictionary_.codes_there.data());
    const ChunkVisit visit = ring_->next();
    return dictionary_.chunk(visit.chunk, copies_->buffer(visit.buffer));
  }

 private:
  class Copies : public SideStream {
   public:
    Copies(const Dictionary::Arrays& dictionary, std::uint8_t* buffers, cudaStream_t main)
        : SideStream(main, dictionary.device, dictionary.device), dictionary_(dictionary), buffers_(buffers) {}

    std::uint8_t* buffer(std::size_t i) const { return buffers_ + i * dictionary_.chunk_image_bytes(); }
    void copy(std::size_t chunk, std::size_t to) const {
      HEADSCAN_CUDA_CHECK(cudaMemcpyAsync(buffer(to), dictionary_.codes_here.data() + dictionary_.image_offset(chunk),
                                          image_bytes(dictionary_.chunk_layout(chunk)), cudaMemcpyHostToDevice,
                                          get()));
    }

   private:
    const Dictionary::Arrays& dictionary_;
    std::uint8_t* buffers_;
  };

  const Dictionary::Arrays& dictionary_;
  Buffer<std::uint8_t> buffers_;  // given back after copies_ is gone, and so after its last copy
  std::optional<Copies> copies_;
  std::optional<ChunkRing<Copies>> ring_;
};

}  // namespace headscan::cuda
