// A stand-in for the CUDA runtime, in the linker's place of it, so that the engine's host code runs where there is no
// GPU. Devices are this process's memory; streams keep what they get until somebody waits, then run it in any order
// that stream and event order allow; kernels are functions that a test names. Memory that is not there yet, or no
// longer, holds garbage, so that what is read too early or too late shows. Calls that a real device would refuse
// (a stream of another device, say) throw.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <string>

namespace fake_cuda {

enum class Order { kDefaultStreamsFirst, kOwnStreamsFirst, kRandom };

// Forgets everything, and starts with so many devices.
void reset(int devices, Order order, unsigned seed);

constexpr int kPinned = -1, kUnknown = -2;
int owner(const void* address);  // the device whose memory it is, or one of these

// What a launch does: given its grid and the addresses of its arguments, returns what is to be run in its turn.
using Kernel = std::function<std::function<void()>(dim3 grid, void** arguments)>;
// For the kernels whose mangled name holds `name`.
void kernel(const std::string& name, Kernel launch);

}  // namespace fake_cuda
