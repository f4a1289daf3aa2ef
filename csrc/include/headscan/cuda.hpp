// The operations of comp.hpp and svd.hpp on NVIDIA GPUs. Part of the library headscan_cuda, built where nvcc is
// found.
//
// Arrays are in the memory of one device and calls only enqueue work on the given stream (a cudaStream_t; null is the
// default stream): they neither wait nor copy to the host, so bad values cannot throw. What they give in place of an
// error is said below. Throws std::invalid_argument on shapes that do not fit, std::runtime_error where CUDA fails,
// naming the operation and its place.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "headscan/comp.hpp"
#include "headscan/svd.hpp"

namespace headscan::cuda {

using Stream = void*;

struct DeviceInfo {
  int index = 0;
  std::string name;
  int major = 0, minor = 0;  // compute capability
  std::size_t memory_bytes = 0;
};

// The devices that this build runs on. Throws std::runtime_error saying why where there is no driver.
std::vector<DeviceInfo> devices();

// "13.0", and the targets compiled for: "sm_80, sm_90, compute_90".
std::string toolkit_version();
std::string targets();

struct UploadOptions {
  std::size_t first = 0;         // the first atom, a multiple of kBlockAtoms
  std::size_t rows = 0;          // atoms from there on; 0: all
  std::size_t memory_bytes = 0;  // of device memory that may be taken; 0: what is free, less what a call needs
};

// A packed dictionary and its full-precision rows, or part of one, for one device. What does not fit its memory is
// kept in pinned host memory: rows are read from there, codes streamed in chunks while others are searched.
class Dictionary {
 public:
  // Copies it there, and waits until it is there.
  Dictionary(const PackedDictionary& dictionary, int device, const UploadOptions& options = {});
  ~Dictionary();  // waits for the device, which may still be reading
  Dictionary(Dictionary&&) noexcept;

  int device() const;
  std::size_t chunks() const;  // more than one: streamed
  std::size_t bytes() const;   // of device memory, a call's two buffers for chunks counted

  struct Arrays;
  const Arrays& arrays() const { return *arrays_; }

 private:
  std::unique_ptr<Arrays> arrays_;
};

// Whether a whole dictionary would now go into the device's memory altogether. Throws where not even a stream would.
bool fits(const PackedLayout& layout, int device);

// Where the codes go, as CodeViews has them, and what float64 had to decide.
struct DeviceCodes {
  MatrixView<std::int64_t> indices;   // (n, k)
  MatrixView<double> coefficients;    // (n, k)
  std::uint8_t* certified = nullptr;  // (n)
  std::int64_t* rescored = nullptr;   // (n) atoms scored in float64
};

// COMP with the picks and coefficients of headscan::comp, bit for bit. A row of x with NaN, infinity or a norm of
// 1e15 and more gets indices of -1, coefficients of 0, and is not certified. Methods other than kComp throw.
//
// `parts` together are the dictionary, each on a device of its own, say. x, codes and stream belong to that of the
// first. Work on the others is ordered by events before what the stream gets next.
template <class T>
void comp(MatrixView<const T> x, const std::vector<const Dictionary*>& parts, const DeviceCodes& codes,
          const CompOptions& options, Stream stream);

// As headscan::svd_factored, to the accuracy of T. A matrix whose factors hold NaN or infinity gets NaN everywhere.
template <class T>
void svd_factored(BatchView<const T> left, BatchView<const T> right, BatchView<T> u, MatrixView<T> s, BatchView<T> vh,
                  int device, Stream stream);

}  // namespace headscan::cuda
