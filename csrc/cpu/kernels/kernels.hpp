// The kernels of one instruction set.
#pragma once

#include "cpu/kernels/dense.hpp"
#include "cpu/kernels/int8.hpp"

namespace headscan {

struct Kernels {
  const DenseKernels& dense;
  const Int8Kernels& int8;
};

// Those of active_isa(). It reads the environment: once a call, on the thread of the caller, and never on a worker's.
const Kernels& active_kernels();

}  // namespace headscan
