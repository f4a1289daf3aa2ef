// Kernel bodies on the CPU: one thread of the operating system for each CUDA thread of a block, the interface that
// cuda/support/block.cuh gives on the GPU. Under ThreadSanitizer a missing barrier is a data race. Copies in the
// background arrive as late as their wait allows. Warp instructions follow the PTX ISA's fragment layouts, stated
// here anew.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "common/team.hpp"

namespace emulate {

class Barrier {
 public:
  explicit Barrier(unsigned count) : count_(count) {}
  void wait() {
    std::unique_lock lock(mutex_);
    const unsigned turn = turn_;
    if (++here_ == count_) {
      here_ = 0;
      ++turn_;
      all_.notify_all();
      return;
    }
    all_.wait(lock, [&] { return turn != turn_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  unsigned count_, here_ = 0, turn_ = 0;
};

// What the lanes of a warp show one another.
struct Warp {
  explicit Warp(unsigned lanes) : barrier(lanes) {}
  Barrier barrier;
  const void* rows[32] = {};
  std::uint32_t a[32][4] = {}, b[32][2] = {};
  float values[32] = {};
};

inline std::int8_t byte_of(std::uint32_t word, unsigned i) {
  return static_cast<std::int8_t>(word >> (8 * i) & 0xffU);
}

class Block {
 public:
  using Team = headscan::SerialTeam;

  Block(unsigned rank, unsigned size, Barrier& barrier, Warp& warp)
      : rank_(rank), size_(size), barrier_(barrier), warp_(warp) {}

  unsigned rank() const { return rank_; }
  unsigned size() const { return size_; }
  void sync() const { barrier_.wait(); }
  Team team() const { return {}; }

  void copy_async(void* shared, const void* global) const { pending_.push_back({shared, global}); }
  void commit() const {
    groups_.push_back(std::move(pending_));
    pending_.clear();
  }
  template <int kGroups>
  void wait() const {
    for (; groups_.size() > kGroups; groups_.pop_front()) {
      for (const auto& copy : groups_.front()) std::memcpy(copy.first, copy.second, 16);
    }
  }

  // ldmatrix .x4 .b16: lane l names row l % 8 of matrix l / 8; it gets from each matrix bytes 4 (l % 4) .. of row l
  // / 4.
  void load_matrices(std::uint32_t (&to)[4], const void* shared) const {
    warp_.rows[lane()] = shared;
    warp_.barrier.wait();
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
      const auto* row = static_cast<const char*>(warp_.rows[matrix * 8 + lane() / 4]);
      std::memcpy(&to[matrix], row + lane() % 4 * 4, 4);
    }
    warp_.barrier.wait();
  }

  // mma .m16n8k32 .s8: with g = lane / 4 and t = lane % 4, register r of A has row g + 8 (r % 2), columns from
  // 4 t + 16 (r / 2) on; register r of B rows from 4 t + 16 r on of column g; value v of C row g + 8 (v / 2), column
  // 2 t + v % 2.
  void multiply(std::int32_t (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t* b) const {
    std::memcpy(warp_.a[lane()], a, sizeof(a));
    std::memcpy(warp_.b[lane()], b, sizeof(warp_.b[0]));
    warp_.barrier.wait();
    for (unsigned v = 0; v < 4; ++v) {
      const unsigned row = lane() / 4 + v / 2 * 8, column = lane() % 4 * 2 + v % 2;
      for (unsigned k = 0; k < 32; ++k) {
        const std::uint32_t left = warp_.a[row % 8 * 4 + k % 16 / 4][row / 8 + k / 16 * 2];
        const std::uint32_t right = warp_.b[column * 4 + k % 16 / 4][k / 16];
        c[v] += byte_of(left, k % 4) * byte_of(right, k % 4);
      }
    }
    warp_.barrier.wait();
  }

  float max_over_rows(float value) const {
    warp_.values[lane()] = value;
    warp_.barrier.wait();
    for (unsigned other = lane() % 4; other < 32; other += 4) {
      value = warp_.values[other] > value ? warp_.values[other] : value;
    }
    warp_.barrier.wait();
    return value;
  }

 private:
  unsigned lane() const { return rank_ % 32; }

  unsigned rank_, size_;
  Barrier& barrier_;
  Warp& warp_;
  mutable std::vector<std::pair<void*, const void*>> pending_;
  mutable std::deque<std::vector<std::pair<void*, const void*>>> groups_;
};

// body(block) on `threads` threads at once.
template <class Body>
void run(unsigned threads, const Body& body) {
  Barrier barrier(threads);
  std::deque<Warp> warps;
  for (unsigned first = 0; first < threads; first += 32) warps.emplace_back(std::min(32U, threads - first));
  std::vector<std::thread> running;
  for (unsigned rank = 0; rank < threads; ++rank) {
    running.emplace_back([&, rank] { body(Block(rank, threads, barrier, warps[rank / 32])); });
  }
  for (auto& thread : running) thread.join();
}

}  // namespace emulate
