// A packed dictionary in a device's memory, or as much of it as fits (placement.hpp).
#pragma once

#include "cuda/search/placement.hpp"
#include "cuda/support/device.hpp"
#include "headscan/cuda.hpp"

namespace headscan::cuda {

// A run of atoms, their codes at hand: what kernels search at once.
struct Chunk {
  CodeLayout layout;                               // `rows` of the chunk
  std::size_t first = 0;                           // its first atom within the dictionary
  const std::int8_t* codes = nullptr;              // (padded rows, row_bytes)
  const float *scale = nullptr, *error = nullptr;  // (padded rows)
  const float* atoms = nullptr;                    // (rows, width)
};

struct Dictionary::Arrays {
  Arrays(const PackedDictionary& dictionary, int device, const UploadOptions& options);

  std::size_t chunks() const { return placement.chunks(layout.rows); }
  CodeLayout chunk_layout(std::size_t chunk) const {
    const std::size_t first = chunk * placement.chunk_rows;
    return with_rows(layout, std::min(placement.chunk_rows, layout.rows - first));
  }
  // Where a chunk starts in codes_there or codes_here.
  std::size_t image_offset(std::size_t chunk) const { return chunk * chunk_image_bytes(); }
  std::size_t chunk_image_bytes() const { return image_bytes(with_rows(layout, placement.chunk_rows)); }
  // A chunk whose codes are at `image` in device memory.
  Chunk chunk(std::size_t chunk, const std::uint8_t* image) const;

  int device;
  std::size_t first;  // the atom of the whole that atom 0 is
  CodeLayout layout;
  Placement placement;
  Buffer<float> rotation;  // (width, width)
  // Codes as chunk images and full-precision rows (rows, width): either in device memory or pinned on the host.
  Buffer<std::uint8_t> codes_there;
  Pinned<std::uint8_t> codes_here;
  Buffer<float> rows_there;
  Pinned<float> rows_here;
};

}  // namespace headscan::cuda
