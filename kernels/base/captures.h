// Which streams of a backend are captured now, by which threads, and what broke a capture: the rules of DeviceApi's
// graphs, written once for all backends that have them.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// Every refuse_...() is ok where no capture forbids the call; while nothing is captured it costs one atomic load. Else
/// it is `unsupported` with a sentence, and breaks the captures that forbid it. Threads may call at the same time.
class Captures {
 public:
  /// invalid_argument for the null stream, and for one that is captured already.
  Status begin(int device, Stream stream);
  /// invalid_argument where the calling thread has not begun a capture of this stream.
  Status may_end(Stream stream) const;
  /// Forgets the capture and gives what broke it first, or ok.
  Status end(Stream stream);

  bool has(Stream stream) const;
  /// True while a stream of the device is captured, or the calling thread captures one of any device: it must not give
  /// memory back to the device, nor wait for it.
  bool forbid_freeing(int device) const;

  Status refuse_host_copy(Stream stream);
  Status refuse_event(Stream stream);
  Status refuse_graph(Stream stream);
  /// For the host waiting for the stream, and for the calling thread waiting for whatever while it captures.
  Status refuse_wait(Stream stream);
  Status refuse_wait();
  Status refuse_allocation();

 private:
  struct Capture {
    int device;
    void* stream;
    std::thread::id thread;
    Status broken;
  };
  template <class Forbids>
  Status refuse(const char* sentence, Forbids&& forbids);
  template <class Matches>
  const Capture* find(Matches&& matches) const;   // null where there is none; the mutex is held

  std::atomic<int> count_{0};
  mutable std::mutex mutex_;
  std::vector<Capture> captures_;
};

}  // namespace sinter::kernels
