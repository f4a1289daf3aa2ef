// A packed dictionary in a device's memory.
#pragma once

#include "cuda/device.hpp"
#include "cuda/layout.hpp"
#include "headscan/cuda.hpp"

namespace headscan::cuda {

struct Dictionary::Arrays {
  Arrays(const PackedDictionary& dictionary, int device);

  int device;
  CodeLayout layout;
  std::size_t bytes;
  Buffer<float> rotation;      // (width, width)
  Buffer<float> scale, error;  // (padded rows)
  Buffer<std::int8_t> codes;   // (padded rows, row_bytes)
  Buffer<float> atoms;         // (rows, width)
};

}  // namespace headscan::cuda
