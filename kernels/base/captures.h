// Which streams of a backend are captured now, by which threads, and what broke a capture: the rules of DeviceApi's
// graphs, written once for all backends that have them.
//
// Another stream of the device joins the capture when the capturing thread lets it wait for an event that was recorded
// in it; from there on its work is a branch of the graph. Before the capture ends, the captured stream waits for an
// event at the end of every branch, or else there is no graph. Streams of the capture wait for no other events, and no
// other thread records events in it or waits for them. Outside of it, such an event is recorded anew before it is used.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// What a capture ends with whose streams were not brought together again.
inline Status loose_end() {
  return unsupported("a stream joined the capture, and the captured one does not wait for it");
}

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

  /// The captured stream, and those that have joined its capture.
  bool has(Stream stream) const;
  /// Without the captured stream itself.
  std::vector<Stream> joined(Stream stream) const;
  /// True while a stream of the device is captured, or the calling thread captures one of any device: it must not give
  /// memory back to the device, nor wait for it.
  bool forbid_freeing(int device) const;

  Status refuse_host_copy(Stream stream);
  /// Of an event that is recorded in the stream: takes it into the stream's capture, or out of the one it was in.
  Status record(Stream stream, Event event);
  /// Of the stream waiting for the event: one of the capturing thread joins the event's capture.
  Status wait(int device, Stream stream, Event event);
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
    Status broken{};
    std::vector<void*> joined{};
    std::vector<void*> events{};   // whose last recording is in the capture

    bool has(Stream which) const;
  };
  template <class Forbids>
  Status refuse(const char* sentence, Forbids&& forbids);
  static Status break_capture(Capture& capture, const char* sentence);
  /// The first of captures_ that matches, or null; the mutex is held.
  template <class List, class Matches>
  static auto find(List& captures, Matches&& matches) -> decltype(captures.data());

  std::atomic<int> count_{0};
  mutable std::mutex mutex_;
  std::vector<Capture> captures_;
};

}  // namespace sinter::kernels
