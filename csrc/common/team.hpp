// The few threads that work on one query. Code written against a team runs on the CPU as a team of one and on the GPU
// as eight lanes, with the same bits: lane l of eight keeps what the CPU keeps in sum l of exact.hpp.
#pragma once

#include <cstddef>

#include "common/exact.hpp"

// Where code runs: on the backend that compiles it, and for plain arithmetic on the host beside it.
#if defined(__CUDACC__)
#define HEADSCAN_DEVICE __device__ __forceinline__  // calls would spill registers
#define HEADSCAN_BOTH __host__ __device__
#else
#define HEADSCAN_DEVICE inline
#define HEADSCAN_BOTH
#endif

namespace headscan {

struct SerialTeam {
  static constexpr std::size_t kLanes = 1;
  HEADSCAN_DEVICE std::size_t lane() const { return 0; }
  HEADSCAN_DEVICE void sync() const {}
  template <class A>
  double dot(const A* a, const double* b, std::size_t n) const {
    return headscan::dot(a, b, n);
  }
  template <class T>
  HEADSCAN_DEVICE T sum(T value) const {
    return value;
  }
  template <class T>
  HEADSCAN_DEVICE T max(T value) const {
    return value;
  }
};

// visit(i) for the i < n of this lane: always the same ones, so a vector that only its team touches needs no sync.
template <class Team, class Visit>
HEADSCAN_DEVICE void each(const Team& team, std::size_t n, const Visit& visit) {
  for (std::size_t i = team.lane(); i < n; i += Team::kLanes) visit(i);
}

// What one lane does for all; the others see it afterwards.
template <class Team, class Work>
HEADSCAN_DEVICE void once(const Team& team, const Work& work) {
  team.sync();
  if (team.lane() == 0) work();
  team.sync();
}

}  // namespace headscan
