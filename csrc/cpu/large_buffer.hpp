// A large array that nobody needs zeroed, on huge pages where the system gives them: a page fault every 4 KB costs
// more than what is then written there.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace headscan {

template <class T>
class LargeBuffer {
 public:
  explicit LargeBuffer(std::size_t count) {
    constexpr std::size_t kHugePage = std::size_t{2} << 20;
    const std::size_t bytes = (count * sizeof(T) + kHugePage) / kHugePage * kHugePage;
    data_.reset(static_cast<T*>(std::aligned_alloc(kHugePage, bytes)));
    if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    (void)madvise(data_.get(), bytes, MADV_HUGEPAGE);  // only a hint
#endif
  }

  T* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace headscan
