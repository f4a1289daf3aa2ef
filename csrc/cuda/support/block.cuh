// The threads of a block as kernel bodies see them. The bodies are templates over this interface;
// tests/cpp/emulate.hpp gives it to them on the CPU, one operating-system thread a CUDA thread, so that they run and
// are checked there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/team.hpp"

namespace headscan::cuda {

// Eight lanes of a warp, four teams a warp.
class WarpTeam {
 public:
  static constexpr std::size_t kLanes = 8;
  __device__ std::size_t lane() const { return threadIdx.x % kLanes; }
  __device__ void sync() const { __syncwarp(mask()); }

  // The bits of exact.hpp: each lane has one of its eight sums, and addition commutes.
  template <class A>
  __device__ double dot(const A* a, const double* b, std::size_t n) const {
    double value = 0;
    for (std::size_t i = lane(); i < n; i += kLanes) {
      value = __dadd_rn(value, __dmul_rn(static_cast<double>(a[i]), b[i]));
    }
    return sum(value);
  }
  template <class T>
  __device__ T sum(T value) const {
    for (int step = 1; step < 8; step *= 2) value += __shfl_xor_sync(mask(), value, step);
    return value;
  }
  template <class T>
  __device__ T max(T value) const {
    for (int step = 1; step < 8; step *= 2) {
      const T other = __shfl_xor_sync(mask(), value, step);
      value = other > value ? other : value;
    }
    return value;
  }

 private:
  __device__ unsigned mask() const { return 0xffU << (threadIdx.x & 24U); }
};

class DeviceBlock {
 public:
  using Team = WarpTeam;

  __device__ unsigned rank() const { return threadIdx.x; }
  __device__ unsigned size() const { return blockDim.x; }
  __device__ void sync() const { __syncthreads(); }
  __device__ Team team() const { return {}; }

  // 16 bytes from global to shared memory, both aligned, in the background; committed in groups, awaited in order.
  __device__ void copy_async(void* shared, const void* global) const {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(shared)), "l"(global) : "memory");
  }
  __device__ void commit() const { asm volatile("cp.async.commit_group;" ::: "memory"); }
  template <int kGroups>  // all but the last kGroups groups have arrived, for this thread's copies
  __device__ void wait() const {
    asm volatile("cp.async.wait_group %0;" ::"n"(kGroups) : "memory");
  }

  // Four 8 x 16 byte matrices; lane l names row l % 8 of matrix l / 8 and gets bytes 4 (l % 4) .. of row l / 4 of
  // each.
  __device__ void load_matrices(std::uint32_t (&to)[4], const void* shared) const {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address(shared))
                 : "memory");
  }

  // c (16, 8) += a (16, 32) b (32, 8) in int8, fragments as the PTX ISA lays out m16n8k32.
  __device__ void multiply(std::int32_t (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t* b) const {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }

  // The maximum over the lanes whose numbers agree in their last two bits.
  __device__ float max_over_rows(float value) const {
    for (int step = 4; step < 32; step *= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, step));
    return value;
  }

 private:
  static __device__ unsigned address(const void* shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
  }
};

}  // namespace headscan::cuda
