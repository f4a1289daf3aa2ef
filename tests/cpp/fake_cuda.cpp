#include "fake_cuda.hpp"

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "check.hpp"

struct Operation {
  std::function<bool()> ready;
  std::function<void()> run;
};

struct CUstream_st {
  int device;
  bool own;
  std::deque<Operation> waiting;
};

struct CUevent_st {
  int device;
  std::shared_ptr<bool> reached;  // of its last record
};

namespace {

struct Block {
  std::unique_ptr<unsigned char[]> bytes;
  std::size_t size;
  int owner;
};

constexpr int kUninitialised = 0xa5, kFreed = 0x5a;
constexpr std::size_t kMemory = std::size_t{16} << 30U;

struct State {
  fake_cuda::Order order;
  std::mt19937 random;
  int device = 0;
  std::vector<std::unique_ptr<CUstream_st>> streams;  // the default ones of all devices first
  std::map<const unsigned char*, Block> memory;
};
std::unique_ptr<State> state;
std::map<std::string, fake_cuda::Kernel>& kernels() {
  static std::map<std::string, fake_cuda::Kernel> all;
  return all;
}
std::map<const void*, std::string>& names() {  // filled before main()
  static std::map<const void*, std::string> all;
  return all;
}
struct Launch {
  dim3 grid;
  cudaStream_t stream;
} pushed;

CUstream_st& stream_of(cudaStream_t handle) {
  return handle == nullptr ? *state->streams[static_cast<std::size_t>(state->device)] : *handle;
}
void enqueue(cudaStream_t handle, std::function<void()> run) {
  CUstream_st& stream = stream_of(handle);
  stream.waiting.push_back({[] { return true; }, std::move(run)});
}

// Runs one operation whose turn may have come; false if there is none.
bool step() {
  std::vector<CUstream_st*> able;
  for (const auto& stream : state->streams) {
    if (!stream->waiting.empty() && stream->waiting.front().ready()) able.push_back(stream.get());
  }
  if (able.empty()) return false;
  CUstream_st* chosen = able[state->random() % able.size()];
  for (CUstream_st* stream : able) {
    if (state->order == fake_cuda::Order::kRandom) break;
    if (stream->own == (state->order == fake_cuda::Order::kOwnStreamsFirst)) chosen = stream;
  }
  const Operation now = std::move(chosen->waiting.front());
  chosen->waiting.pop_front();
  now.run();
  return true;
}
void wait_until(const std::function<bool()>& done) {
  while (!done()) CHECK(step());  // else everything waits for something
}
void wait_for_default_stream() {
  wait_until([] { return stream_of(nullptr).waiting.empty(); });
}

void* allocate(std::size_t size, int owner) {
  auto bytes = std::make_unique<unsigned char[]>(size);
  std::memset(bytes.get(), kUninitialised, size);
  unsigned char* start = bytes.get();
  state->memory[start] = {std::move(bytes), size, owner};
  return start;
}
Block& block_at(void* start) {
  const auto found = state->memory.find(static_cast<unsigned char*>(start));
  CHECK(found != state->memory.end());
  return found->second;
}
void overwrite(void* start, int with) { std::memset(start, with, block_at(start).size); }

// Copies within a device, or between it and the host; only pinned host memory in the background.
void check_copy(const void* to, const void* from, cudaMemcpyKind kind, int device, bool background) {
  const auto on_host = [&](const void* address) {
    const int owner = fake_cuda::owner(address);
    return owner == fake_cuda::kPinned || (owner == fake_cuda::kUnknown && !background);
  };
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  CHECK(from_device ? fake_cuda::owner(from) == device : on_host(from));
  CHECK(to_device ? fake_cuda::owner(to) == device : on_host(to));
}

}  // namespace

namespace fake_cuda {

void reset(int devices, Order order, unsigned seed) {
  state = std::make_unique<State>();
  state->order = order;
  state->random.seed(seed);
  for (int i = 0; i < devices; ++i)
    state->streams.push_back(std::make_unique<CUstream_st>(CUstream_st{i, false, {}}));
}

int owner(const void* address) {
  const auto* byte = static_cast<const unsigned char*>(address);
  auto after = state->memory.upper_bound(byte);
  if (after == state->memory.begin()) return kUnknown;
  --after;
  return byte < after->first + after->second.size ? after->second.owner : kUnknown;
}

void kernel(const std::string& name, Kernel launch) { kernels()[name] = std::move(launch); }

}  // namespace fake_cuda

extern "C" {

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "an error"; }
cudaError_t cudaGetDevice(int* device) {
  *device = state->device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  state->device = device;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = kMemory;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }

cudaError_t cudaMalloc(void** to, std::size_t size) {
  *to = allocate(size, state->device);
  return cudaSuccess;
}
cudaError_t cudaMallocAsync(void** to, std::size_t size, cudaStream_t stream) {
  CHECK(stream_of(stream).device == state->device);
  *to = allocate(size, state->device);
  enqueue(stream, [start = *to] { overwrite(start, kUninitialised); });
  return cudaSuccess;
}
cudaError_t cudaFree(void* start) {
  overwrite(start, kFreed);
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* start, cudaStream_t stream) {
  CHECK(stream_of(stream).device == block_at(start).owner && state->device == block_at(start).owner);
  enqueue(stream, [=] { overwrite(start, kFreed); });
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** to, std::size_t size, unsigned) {
  *to = allocate(size, fake_cuda::kPinned);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* start) {
  overwrite(start, kFreed);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t size, cudaMemcpyKind kind) {
  check_copy(to, from, kind, state->device, false);
  wait_for_default_stream();
  std::memcpy(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2D(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                         std::size_t rows, cudaMemcpyKind kind) {
  check_copy(to, from, kind, state->device, false);
  wait_for_default_stream();
  for (std::size_t i = 0; i < rows; ++i) {
    std::memcpy(static_cast<char*>(to) + i * to_pitch, static_cast<const char*>(from) + i * from_pitch, width);
  }
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  CHECK(stream_of(stream).device == state->device);
  check_copy(to, from, kind, state->device, true);
  enqueue(stream, [=] { std::memcpy(to, from, size); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int to_device, const void* from, int from_device, std::size_t size,
                                cudaStream_t stream) {
  CHECK(fake_cuda::owner(to) == to_device && fake_cuda::owner(from) == from_device);
  enqueue(stream, [=] { std::memcpy(to, from, size); });
  return cudaSuccess;
}
cudaError_t cudaMemset(void* to, int value, std::size_t size) {
  CHECK(fake_cuda::owner(to) == state->device);
  enqueue(nullptr, [=] { std::memset(to, value, size); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t size, cudaStream_t stream) {
  CHECK(fake_cuda::owner(to) == state->device && stream_of(stream).device == state->device);
  enqueue(stream, [=] { std::memset(to, value, size); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  CHECK(flags == cudaStreamNonBlocking);
  state->streams.push_back(std::make_unique<CUstream_st>(CUstream_st{state->device, true, {}}));
  *stream = state->streams.back().get();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }  // what it has got is still done
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st{state->device, nullptr};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  CHECK(stream_of(stream).device == event->device);
  event->reached = std::make_shared<bool>(false);
  enqueue(stream, [reached = event->reached] { *reached = true; });
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const auto reached = event->reached ? event->reached : std::make_shared<bool>(true);
  stream_of(stream).waiting.push_back({[=] { return *reached; }, [] {}});
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  wait_until([] {
    for (const auto& stream : state->streams) {
      if (stream->device == state->device && !stream->waiting.empty()) return false;
    }
    return true;
  });
  return cudaSuccess;
}

void** __cudaRegisterFatBinary(void* code) { return new void*(code); }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void** handle) { delete handle; }
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  names()[host] = name;
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3, std::size_t, CUstream_st* stream) {
  pushed = {grid, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, std::size_t* shared, void* stream) {
  *grid = pushed.grid;
  *block = dim3();
  *shared = 0;
  *static_cast<cudaStream_t*>(stream) = pushed.stream;
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3, void** arguments, std::size_t,
                             cudaStream_t stream) {
  CHECK(stream_of(stream).device == state->device);
  const std::string& mangled = names().at(function);
  for (const auto& [name, launch] : kernels()) {
    if (mangled.find(name) == std::string::npos) continue;
    enqueue(stream, launch(grid, arguments));
    return cudaSuccess;
  }
  throw std::runtime_error("no stand-in for the kernel " + mangled);
}
// Since CUDA 13 launches go by a handle.
cudaError_t __cudaGetKernel(cudaKernel_t* handle, const void* function) {
  *handle = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t handle, dim3 grid, dim3 block, void** arguments, std::size_t shared,
                               cudaStream_t stream) {
  return cudaLaunchKernel(handle, grid, block, arguments, shared, stream);
}

}  // extern "C"
