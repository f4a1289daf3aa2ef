// A stream beside the caller's, on the same device or another.
#pragma once

#include "cuda/support/device.hpp"

namespace headscan::cuda {

class Event {
 public:
  Event() { HEADSCAN_CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  ~Event() { (void)cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // What `waiting` gets from here on waits for all that `stream` has got so far. The event belongs to the device of
  // `stream`, `waiting` to the given one; each must be current where its stream may be the default one.
  void order(cudaStream_t stream, int stream_device, cudaStream_t waiting, int waiting_device) const {
    {
      const OnDevice on(stream_device);
      HEADSCAN_CUDA_CHECK(cudaEventRecord(event_, stream));
    }
    const OnDevice on(waiting_device);
    HEADSCAN_CUDA_CHECK(cudaStreamWaitEvent(waiting, event_, 0));
  }

 private:
  cudaEvent_t event_ = nullptr;
};

class OwnStream {
 public:
  OwnStream() { HEADSCAN_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~OwnStream() { (void)cudaStreamDestroy(stream_); }  // what it has got is still done
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

template <class T>
class MadeOn : public T {  // its constructor ran with a device current
 public:
  explicit MadeOn(int device) : MadeOn(OnDevice(device)) {}

 private:
  explicit MadeOn(const OnDevice&) {}
};

// All that it has got is done before what `main` gets after this is gone.
class SideStream {
 public:
  SideStream(cudaStream_t main, int main_device, int device)
      : main_(main),
        main_device_(main_device),
        device_(device),
        stream_(device),
        done_(device),
        ready_(main_device) {}
  ~SideStream() {
    try {
      let_main_wait();
    } catch (const std::runtime_error&) {  // the device is gone
    }
  }
  SideStream(const SideStream&) = delete;
  SideStream& operator=(const SideStream&) = delete;

  void wait_for_main() const { ready_.order(main_, main_device_, stream_.get(), device_); }
  void let_main_wait() const { done_.order(stream_.get(), device_, main_, main_device_); }
  cudaStream_t get() const { return stream_.get(); }

 private:
  cudaStream_t main_;
  int main_device_, device_;
  MadeOn<OwnStream> stream_;
  MadeOn<Event> done_, ready_;
};

}  // namespace headscan::cuda
