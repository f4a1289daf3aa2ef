#include "cpu/support/parallel.hpp"

#include <sched.h>

#include <cstdlib>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>

#include "headscan/info.hpp"

namespace headscan {
namespace {

constexpr int kMostThreads = 1024;

// The C++ runtime allocates what a thread keeps of its exceptions when it first asks, and where there is no memory
// left by then the system ends the process. So every thread asks before it works, and only where memory is to be had.
bool prepare_for_exceptions() {
  constexpr std::size_t kEnough = 1 << 16;
  void* volatile probe = ::operator new(kEnough, std::nothrow);  // volatile: not to be left out
  if (probe == nullptr) return false;
  ::operator delete(probe);
  (void)std::uncaught_exceptions();
  return true;
}

}  // namespace

int default_threads() {
  if (const char* text = std::getenv("HEADSCAN_NUM_THREADS"); text != nullptr && *text != '\0') {
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    if (*end != '\0' || value < 1 || value > kMostThreads) {
      throw std::invalid_argument("HEADSCAN_NUM_THREADS must be a whole number from 1 to " +
                                  std::to_string(kMostThreads) + ", got '" + std::string(text) + "'");
    }
    return static_cast<int>(value);
  }
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return CPU_COUNT(&allowed);
  return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
}

Pool::Pool(int threads, std::function<void()> interrupt) : interrupt_(std::move(interrupt)) {
  if (threads < 0 || threads > kMostThreads) {
    throw std::invalid_argument("threads must be from 0 (all) to " + std::to_string(kMostThreads) + ", got " +
                                std::to_string(threads));
  }
  if (!prepare_for_exceptions()) throw std::bad_alloc();  // the importing thread was prepared by then
  const int wanted = threads == 0 ? default_threads() : threads;
  threads_.reserve(static_cast<std::size_t>(wanted - 1));
  try {
    for (int worker = 1; worker < wanted; ++worker) {
      threads_.emplace_back([this, worker] { serve(static_cast<std::size_t>(worker)); });
    }
  } catch (const std::system_error& error) {
    stop();
    throw std::runtime_error("cannot start " + std::to_string(wanted) + " threads: " + error.what());
  } catch (...) {  // std::bad_alloc
    stop();
    throw;
  }
  {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return ready_ == threads_.size(); });  // before the work's own allocations
  }
  if (unprepared_) {
    stop();
    throw std::bad_alloc();
  }
}

Pool::~Pool() { stop(); }

void Pool::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  start_.notify_all();
  for (auto& thread : threads_) thread.join();
}

void Pool::run(std::size_t tasks, const Body& body) {
  if (tasks == 0) return;
  {
    const std::scoped_lock lock(mutex_);
    body_ = &body;
    tasks_ = tasks;
    next_ = 0;
    busy_ = threads_.size();
    error_ = nullptr;
    ++generation_;
  }
  start_.notify_all();
  drain(0);
  std::unique_lock lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
  if (error_) std::rethrow_exception(error_);
}

void Pool::poll() {
  if (!interrupt_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now - polled_ < std::chrono::milliseconds(50)) return;
  polled_ = now;
  interrupt_();
}

void Pool::drain(std::size_t worker) {
  for (std::size_t task; (task = next_.fetch_add(1)) < tasks_;) {
    try {
      if (worker == 0) poll();
      (*body_)(task, worker);
    } catch (...) {
      const std::scoped_lock lock(mutex_);
      if (!error_ || task < error_task_) {  // tasks start in order, so the first to fail is the same every time
        error_ = std::current_exception();
        error_task_ = task;
      }
      next_ = tasks_;
    }
  }
}

void Pool::serve(std::size_t worker) {
  const bool prepared = prepare_for_exceptions();
  {
    const std::scoped_lock lock(mutex_);
    ++ready_;
    unprepared_ = unprepared_ || !prepared;
  }
  done_.notify_one();
  if (!prepared) return;
  std::size_t seen = 0;
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      start_.wait(lock, [&] { return stopping_ || generation_ != seen; });
      if (stopping_) return;
      seen = generation_;
    }
    drain(worker);
    const std::scoped_lock lock(mutex_);
    if (--busy_ == 0) done_.notify_one();
  }
}

}  // namespace headscan
