// What every CUDA source needs from the host side: checked calls, the current device, memory.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <stdexcept>
#include <string>

namespace headscan::cuda {

// Throws std::runtime_error that names the operation and its place.
[[noreturn]] inline void fail(cudaError_t status, const char* operation, const char* file, int line) {
  (void)cudaGetLastError();  // not to be told again to the next caller
  throw std::runtime_error(std::string(operation) + " failed: " + cudaGetErrorString(status) + " (" + file + ":" +
                           std::to_string(line) + ")");
}

#define HEADSCAN_CUDA_CHECK(call)                                                                \
  do {                                                                                           \
    const cudaError_t status_ = (call);                                                          \
    if (status_ != cudaSuccess) ::headscan::cuda::fail(status_, #call, __FILE_NAME__, __LINE__); \
  } while (false)

// After a launch: what was wrong with the launch itself. Faults inside a kernel show at the caller's next wait.
#define HEADSCAN_CUDA_LAUNCHED(kernel)                                                                         \
  do {                                                                                                         \
    const cudaError_t status_ = cudaGetLastError();                                                            \
    if (status_ != cudaSuccess) ::headscan::cuda::fail(status_, "launching " kernel, __FILE_NAME__, __LINE__); \
  } while (false)

// Makes a device current for as long as it lives.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    HEADSCAN_CUDA_CHECK(cudaGetDevice(&before_));
    HEADSCAN_CUDA_CHECK(cudaSetDevice(device));
  }
  ~OnDevice() { (void)cudaSetDevice(before_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

// Device memory in the order of a stream: taken and given back without waiting for the device.
template <class T>
class Buffer {
 public:
  Buffer(std::size_t count, cudaStream_t stream) : stream_(stream) {
    if (count > 0) HEADSCAN_CUDA_CHECK(cudaMallocAsync(reinterpret_cast<void**>(&data_), count * sizeof(T), stream));
  }
  ~Buffer() {
    if (data_ != nullptr) (void)cudaFreeAsync(data_, stream_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  cudaStream_t stream_;
};

// Host memory that stays where it is: copied from in the background, and read by kernels at the same address.
template <class T>
class Pinned {
 public:
  explicit Pinned(std::size_t count) {
    constexpr unsigned kFlags = cudaHostAllocPortable | cudaHostAllocMapped;
    if (count > 0) HEADSCAN_CUDA_CHECK(cudaHostAlloc(reinterpret_cast<void**>(&data_), count * sizeof(T), kFlags));
  }
  ~Pinned() {
    if (data_ != nullptr) (void)cudaFreeHost(data_);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
};

inline unsigned blocks_for(std::size_t items, std::size_t per_block) {
  return static_cast<unsigned>((items + per_block - 1) / per_block);
}

// A kernel's dynamic shared memory past 48 KB must be asked for.
template <class Kernel>
void allow_shared(Kernel kernel, std::size_t bytes) {
  HEADSCAN_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)));
}

}  // namespace headscan::cuda
