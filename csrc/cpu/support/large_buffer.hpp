// A large array that nobody needs zeroed, on huge pages where the system gives them: a page fault every 4 KB costs
// more than what is then written there. One array that was given back is kept for whoever asks next, since the system
// takes a tenth of a pass over a million atoms to clear it anew.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

namespace headscan {

class LargeBuffer {
 public:
  explicit LargeBuffer(std::size_t bytes) {
    {
      const std::scoped_lock lock(spare().mutex);
      if (spare().bytes >= bytes) {
        data_ = std::move(spare().data);
        bytes_ = std::exchange(spare().bytes, 0);
        return;
      }
    }
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    bytes_ = (bytes + kHugePage) / kHugePage * kHugePage;
    data_.reset(std::aligned_alloc(kHugePage, bytes_));
    if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    (void)madvise(data_.get(), bytes_, MADV_HUGEPAGE);  // only a hint
#endif
  }
  ~LargeBuffer() {
    const std::scoped_lock lock(spare().mutex);
    if (bytes_ <= spare().bytes) return;
    std::swap(data_, spare().data);
    spare().bytes = bytes_;
  }
  LargeBuffer(const LargeBuffer&) = delete;
  LargeBuffer& operator=(const LargeBuffer&) = delete;

  std::uint8_t* data() const { return static_cast<std::uint8_t*>(data_.get()); }

 private:
  struct Free {
    void operator()(void* data) const { std::free(data); }
  };
  struct Spare {
    std::mutex mutex;
    std::unique_ptr<void, Free> data;
    std::size_t bytes = 0;
  };
  static Spare& spare() {
    static Spare one;
    return one;
  }

  std::unique_ptr<void, Free> data_;
  std::size_t bytes_ = 0;
};

}  // namespace headscan
