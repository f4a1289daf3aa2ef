// svd_factored on the GPU: a block of threads a matrix, all matrices in one launch.
#include <algorithm>
#include <stdexcept>
#include <string>

#include "common/factor_shapes.hpp"
#include "cuda/support/block.cuh"
#include "cuda/support/device.hpp"
#include "cuda/svd/svd_matrix.hpp"
#include "headscan/cuda.hpp"

namespace headscan::cuda {
namespace {

constexpr unsigned kThreads = 256;

// `pairs` (blocks, pair_doubles) is where a and v lie if not in shared memory.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    svd_matrices(SvdMemory memory, std::size_t count, const T* left, const T* right, SvdOutput<T> out, double* global,
                 double* pairs) {
  extern __shared__ double shared_memory[];
  const DeviceBlock block;
  double* pair = pairs == nullptr ? shared_memory : pairs + blockIdx.x * memory.pair_doubles();
  double* rest = pairs == nullptr ? shared_memory + memory.pair_doubles() : shared_memory;
  const SvdShared shared = lay_out(block, memory, pair, rest);
  global += blockIdx.x * memory.global_doubles();
  const std::size_t left_size = memory.left_rows * memory.rank, right_size = memory.right_rows * memory.rank;
  for (std::size_t item = blockIdx.x; item < count; item += gridDim.x) {
    const SvdOutput<T> mine{out.u + item * left_size, out.s + item * memory.rank, out.vh + item * right_size};
    svd_matrix(block, shared, memory, global, left + item * left_size, right + item * right_size, mine);
    block.sync();
  }
}

template <class T>
void check_shapes(const BatchView<const T>& left, const BatchView<const T>& right) {
  check_factor_shapes(left, right);
  const std::size_t r = left.columns;
  if (r > kThreads) {
    throw std::invalid_argument("on CUDA the rank r is at most " + std::to_string(kThreads) + ", got " +
                                std::to_string(r) + ": use the CPU");
  }
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  HEADSCAN_CUDA_CHECK(cudaDeviceGetAttribute(&value, which, device));
  return value;
}

}  // namespace

template <class T>
void svd_factored(BatchView<const T> left, BatchView<const T> right, BatchView<T> u, MatrixView<T> s, BatchView<T> vh,
                  int device, Stream stream_handle) {
  check_shapes(left, right);
  if (left.count == 0) return;
  const OnDevice on(device);
  auto* stream = static_cast<cudaStream_t>(stream_handle);
  const SvdMemory memory{left.rows, right.columns, left.columns};
  const auto most = static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  const std::size_t rest = memory.shared_doubles(kThreads) * sizeof(double);
  const std::size_t whole = rest + memory.pair_doubles() * sizeof(double);
  const auto wanted = 2 * static_cast<std::size_t>(attribute(cudaDevAttrMultiProcessorCount, device));
  const std::size_t blocks = std::min(left.count, wanted);
  const Buffer<double> global(blocks * memory.global_doubles(), stream);
  const Buffer<double> pairs(whole > most ? blocks * memory.pair_doubles() : 0, stream);
  const std::size_t shared_bytes = whole > most ? rest : whole;
  allow_shared(svd_matrices<T>, shared_bytes);
  svd_matrices<T><<<static_cast<unsigned>(blocks), kThreads, shared_bytes, stream>>>(
      memory, left.count, left.data, right.data, {u.data, s.data, vh.data}, global.data(), pairs.data());
  HEADSCAN_CUDA_LAUNCHED("svd_matrices");
}

template void svd_factored<float>(BatchView<const float>, BatchView<const float>, BatchView<float>, MatrixView<float>,
                                  BatchView<float>, int, Stream);
template void svd_factored<double>(BatchView<const double>, BatchView<const double>, BatchView<double>,
                                   MatrixView<double>, BatchView<double>, int, Stream);

}  // namespace headscan::cuda
