// The search of one part of a dictionary beside the panel's own, on a stream beside the panel's, on the same device
// or another. Every copy between the two is on that stream; the panel's only waits for it.
#pragma once

#include <memory>

#include "cuda/search/search_int8.hpp"
#include "cuda/support/side_stream.hpp"

namespace headscan::cuda {

class OtherPart {
 public:
  // `to`: where in the panel's device memory a search leaves what it found, as OtherResults has it for one part.
  struct Output {
    Best* found;
    float* rows;
    std::int64_t* rescored;
  };

  OtherPart(const Dictionary::Arrays& part, const PanelState& panel, std::size_t panel_size, std::size_t searches,
            cudaStream_t main, int main_device, Output to)
      : panel_(panel), to_(to), main_device_(main_device), device_(part.device), side_(main, main_device, device_) {
    const OnDevice on(device_);
    here_ = std::make_unique<Here>(part, panel, panel_size, searches, side_.get());
  }
  ~OtherPart() {
    try {
      const OnDevice on(device_);
      here_.reset();
    } catch (const std::runtime_error&) {  // the device is gone, and its memory with it
    }
  }
  OtherPart(const OtherPart&) = delete;
  OtherPart& operator=(const OtherPart&) = delete;

  // Enqueues the search of a round; the panel must not change before let_main_wait().
  void search(std::size_t count, std::size_t round) {
    const OnDevice on(device_);
    side_.wait_for_main();  // the panel's queries are there, and what was found the last time is merged
    const std::size_t width = panel_.width;
    fetch(here_->queries.data(), panel_.queries, count * width);
    fetch(here_->picked.data(), panel_.picked, count * panel_.k);
    HEADSCAN_CUDA_CHECK(cudaMemsetAsync(here_->found.data(), 0xff, count * sizeof(Best), side_.get()));  // index -1
    HEADSCAN_CUDA_CHECK(cudaMemsetAsync(here_->rescored.data(), 0, count * sizeof(std::int64_t), side_.get()));
    const SearchState state{here_->queries.data(), here_->picked.data(), panel_.k,
                            here_->found.data(),   here_->rows.data(),   width,
                            here_->rescored.data()};
    here_->search.argmax(state, count, round);
    send(to_.found, here_->found.data(), count);
    send(to_.rows, here_->rows.data(), count * width);
    send(to_.rescored, here_->rescored.data(), count);
  }
  void let_main_wait() const { side_.let_main_wait(); }

 private:
  struct Here {  // in the memory of the part's device
    Here(const Dictionary::Arrays& part, const PanelState& panel, std::size_t size, std::size_t searches,
         cudaStream_t stream)
        : queries(size * panel.width, stream),
          picked(size * panel.k, stream),
          found(size, stream),
          rows(size * panel.width, stream),
          rescored(size, stream),
          search(part, size, searches, stream) {}
    Buffer<double> queries;
    Buffer<std::int64_t> picked;
    Buffer<Best> found;
    Buffer<float> rows;
    Buffer<std::int64_t> rescored;
    SearchInt8 search;
  };

  template <class T>
  void fetch(T* to, const T* from, std::size_t count) const {
    copy(to, device_, from, main_device_, count * sizeof(T));
  }
  template <class T>
  void send(T* to, const T* from, std::size_t count) const {
    copy(to, main_device_, from, device_, count * sizeof(T));
  }
  void copy(void* to, int to_device, const void* from, int from_device, std::size_t bytes) const {
    if (to_device == from_device) {
      HEADSCAN_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, side_.get()));
    } else {
      HEADSCAN_CUDA_CHECK(cudaMemcpyPeerAsync(to, to_device, from, from_device, bytes, side_.get()));
    }
  }

  const PanelState& panel_;
  Output to_;
  int main_device_, device_;
  SideStream side_;
  std::unique_ptr<Here> here_;
};

}  // namespace headscan::cuda
