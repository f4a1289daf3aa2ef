// A small pool of workers for loops whose tasks are independent. Which worker runs a task never changes a result.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace headscan {

class Pool {
 public:
  // 0 threads: default_threads(). `interrupt` is called on the thread of run() between tasks, every 50 ms or so; what
  // it throws ends the run.
  explicit Pool(int threads, std::function<void()> interrupt = {});
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  std::size_t workers() const { return threads_.size() + 1; }

  // body(task, worker) for task = 0 .. tasks-1, worker < workers(); rethrows the exception of the first task that
  // threw.
  using Body = std::function<void(std::size_t task, std::size_t worker)>;
  void run(std::size_t tasks, const Body& body);

 private:
  void stop();
  void serve(std::size_t worker);
  void drain(std::size_t worker);
  void poll();

  std::function<void()> interrupt_;
  std::chrono::steady_clock::time_point polled_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable start_, done_;
  const Body* body_ = nullptr;
  std::atomic<std::size_t> next_{0};
  std::size_t tasks_ = 0;
  std::size_t busy_ = 0;
  std::size_t ready_ = 0;    // threads
  bool unprepared_ = false;  // a thread has no memory for exceptions
  std::size_t generation_ = 0;
  bool stopping_ = false;
  std::exception_ptr error_;
  std::size_t error_task_ = 0;
};

}  // namespace headscan
