// The order in which chunks go through two buffers, each copied while the one before it is at work. Two streams take
// part: `main`, which the work goes to, and one beside it, which copies. Host code alone; tests/cpp runs it over
// streams that are as early and as late as their waits allow.
#pragma once

#include <cstddef>

namespace headscan::cuda {

struct ChunkVisit {
  std::size_t chunk = 0, buffer = 0;
};

// `Side` is the stream beside main:
//   wait_for_main()       what it gets from here on waits for all that main has got so far
//   let_main_wait()       what main gets from here on waits for all that it has got so far
//   copy(chunk, buffer)   copies a chunk from the host
template <class Side>
class ChunkRing {
 public:
  // Chunks 0 .. chunks - 1 in turn, over and over, until there were so many visits.
  ChunkRing(Side& side, std::size_t chunks, std::size_t visits) : side_(side), chunks_(chunks), visits_(visits) {
    copy_next();
  }

  // The chunk that main's work sees from here on, until the next call.
  ChunkVisit next() {
    side_.let_main_wait();  // its copy was the last to start
    const ChunkVisit now = ahead_;
    copy_next();
    return now;
  }

 private:
  void copy_next() {
    if (started_ == visits_) return;
    side_.wait_for_main();  // which may still be at work on what the buffer holds
    ahead_ = {started_ % chunks_, started_ % 2};
    side_.copy(ahead_.chunk, ahead_.buffer);
    ++started_;
  }

  Side& side_;
  std::size_t chunks_, visits_, started_ = 0;
  ChunkVisit ahead_;
};

}  // namespace headscan::cuda
