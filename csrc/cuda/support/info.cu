// What this build holds and what runs it.
#include "cuda/support/device.hpp"
#include "headscan/cuda.hpp"

namespace headscan::cuda {

std::vector<DeviceInfo> devices() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    int driver = 0;
    if (status == cudaErrorInsufficientDriver && cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
      throw std::runtime_error("no NVIDIA driver is installed");
    }
    throw std::runtime_error(cudaGetErrorString(status));
  }
  std::vector<DeviceInfo> found;
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    HEADSCAN_CUDA_CHECK(cudaGetDeviceProperties(&properties, index));
    if (properties.major < 8) continue;
    found.push_back({index, properties.name, properties.major, properties.minor, properties.totalGlobalMem});
  }
  return found;
}

std::string toolkit_version() {
  return std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
}

std::string targets() { return HEADSCAN_CUDA_TARGETS; }

}  // namespace headscan::cuda
