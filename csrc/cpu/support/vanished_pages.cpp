#include "cpu/support/vanished_pages.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <vector>

namespace headscan {
namespace {

struct Range {
  std::uint8_t* data;
  std::size_t bytes;
  bool vanished;

  bool holds(const void* address) const {
    const auto* byte = static_cast<const std::uint8_t*>(address);
    return byte >= data && byte < data + bytes;
  }
};

// A fault comes from the very instruction that reads a page, and nobody reads one while holding this: the handler may
// lock it.
std::mutex guard;
std::vector<Range> ranges;
void (*notify)() = nullptr;
struct sigaction earlier = {};

Range* range_of(const void* address) {
  const auto at =
      std::find_if(ranges.begin(), ranges.end(), [&](const Range& range) { return range.holds(address); });
  return at == ranges.end() ? nullptr : &*at;
}

// Turns the range into zeros, and says whether the address lies in one.
bool replace_pages(const void* address) {
  const std::scoped_lock locked(guard);
  Range* range = range_of(address);
  if (range == nullptr) return false;
  if (range->vanished) return true;  // another thread was faster
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  if (::mmap(range->data, range->bytes, PROT_READ, flags, -1, 0) == MAP_FAILED) return false;
  range->vanished = true;
  if (notify != nullptr) notify();
  return true;
}

void handle(int number, siginfo_t* info, void* context) {
  const int before = errno;
  if (info->si_code == BUS_ADRERR && replace_pages(info->si_addr)) {
    errno = before;
    return;
  }
  if ((earlier.sa_flags & SA_SIGINFO) != 0) {
    earlier.sa_sigaction(number, info, context);
  } else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
    earlier.sa_handler(number);
  } else {  // the instruction runs again, and ends the process as it would have
    ::sigaction(number, &earlier, nullptr);
  }
}

void install() {
  struct sigaction action = {};
  action.sa_sigaction = &handle;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, &earlier);
}

}  // namespace

void watch_pages(std::uint8_t* data, std::size_t bytes) {
  static std::once_flag once;
  std::call_once(once, install);
  const std::scoped_lock locked(guard);
  ranges.push_back({data, bytes, false});
}

void forget_pages(const std::uint8_t* data) {
  const std::scoped_lock locked(guard);
  ranges.erase(std::remove_if(ranges.begin(), ranges.end(), [&](const Range& range) { return range.data == data; }),
               ranges.end());
}

bool pages_vanished(const void* data) {
  const std::scoped_lock locked(guard);
  const Range* range = range_of(data);
  return range != nullptr && range->vanished;
}

void on_vanished_pages(void (*notice)()) {
  const std::scoped_lock locked(guard);
  notify = notice;
}

}  // namespace headscan
