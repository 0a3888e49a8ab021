// An emulated CUDA device, as the host sees it: memory, streams, events, launches, and what its checks found.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels/base/status.h"
#include "kernels/base/stream.h"
#include "kernels/simt/machine.h"
#include "kernels/simt/memory.h"

namespace sinter::kernels::simt {

/// In which order ready threads run, and blocks one after the other.
enum class Order : std::uint8_t { in_order, reverse, random };

struct Options {
  Order order = Order::in_order;
  std::uint64_t seed = 1;        ///< of Order::random
  bool late_copies = true;       ///< a cp.async lands at its wait, and not at once
  bool lazy_streams = false;     ///< work of a stream runs when somebody waits for it, and not at once
  std::size_t most_shared_bytes = 227 << 10;   ///< what allow_dynamic_shared may give a block: that of sm_90
};

/// Counts since the device was made.
struct Statistics {
  std::uint64_t launches = 0, threads = 0, switches = 0, barriers = 0, collectives = 0;
};

/// A kernel with its arguments, ready to run.
struct Launch {
  const void* kernel = nullptr;                   ///< its address: identity and name
  Extent3 grid, block;
  std::size_t dynamic_shared_bytes = 0;
  std::shared_ptr<const void> arguments;
  std::size_t argument_bytes = 0;
  void (*thread_body)(const void* arguments) = nullptr;   ///< what every thread runs
};

/// What a stream does one after the other: a launch, a copy, a fill, waiting for an event.
using Work = std::function<Status()>;

/// Works that were recorded instead of run; replaying runs them again with the arguments of the recording.
using Recording = std::vector<Work>;

class Device;
struct Event;

/// An ordered queue of work. The handle of kernels/base/stream.h points to one.
class StreamQueue {
 public:
  explicit StreamQueue(Device& device) : device_(device) {}

  Device& device() { return device_; }
  /// Runs `work` now, later when streams are lazy, or at each replay of what is being recorded.
  Status submit(Work work);
  /// Runs everything that was submitted before `position`.
  Status run_until(std::uint64_t position);
  Status synchronize() { return run_until(position()); }
  /// Number of works that were ever submitted.
  std::uint64_t position() const { return ran_ + pending_.size(); }

  /// From here on works are kept and not run, as cudaStreamBeginCapture does.
  void begin_recording() { recording_ = std::make_shared<Recording>(); }
  bool is_recording() const { return recording_ != nullptr; }
  /// An event of a recording: works go there too from here on, behind those of the event's stream.
  void join(const Event& event);
  /// Number of works and waits since the queue began to record, or joined.
  std::uint64_t recorded() const { return recorded_; }
  /// True when no other queue of the recording waits for the last of them.
  bool has_loose_end() const { return recorded_ > awaited_; }
  /// Of all queues of a recording the same works, in the order in which they came: one that keeps every wait.
  std::shared_ptr<Recording> end_recording();

 private:
  Device& device_;
  std::deque<Work> pending_;
  std::uint64_t ran_ = 0;
  std::shared_ptr<Recording> recording_;   // of all queues that were joined; null: nothing is recorded
  std::uint64_t recorded_ = 0, awaited_ = 0;
};

/// A point in a stream, and when the stream passed it. Before it is recorded nobody waits for it; one in a recording is
/// a point of that alone.
struct Event {
  using Time = std::chrono::steady_clock::time_point;
  StreamQueue* stream = nullptr;
  std::uint64_t position = 0;
  std::shared_ptr<Time> passed = std::make_shared<Time>();   // recordings of the event write it too

  bool is_in_recording = false;

  void record(StreamQueue& queue) {
    stream = &queue;
    is_in_recording = queue.is_recording();
    position = is_in_recording ? queue.recorded() : queue.position();
  }
  Status synchronize() const {
    if (is_in_recording) return invalid("the event was last recorded in a capture");
    return stream == nullptr ? Status{} : stream->run_until(position);
  }
};

/// All state of one emulated device. One host thread at a time may use it; several threads may use one each.
class Device {
 public:
  Device();
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  /// Device `index` of this process, made at first use.
  static Device& get(int index = 0);
  /// The one among them whose memory holds the address; null for host memory.
  static Device* owner(const void* address);

  /// Filled with 0xff bytes. Status out_of_memory.
  Status allocate(std::size_t bytes, void** memory);
  /// A pointer that no allocate() gave is a fault.
  Status deallocate(void* memory);
  /// Between host and device in any direction. A range that leaves its device buffer is a fault.
  Status copy(void* to, const void* from, std::size_t bytes);
  Status fill(void* to, int byte, std::size_t bytes);

  /// Runs, queues or records a launch. Status invalid_argument for what CUDA refuses (block and grid sizes, shared
  /// memory without allow_dynamic_shared), device_error for a fault, whose report is last_fault().
  Status launch(Launch launch, Stream stream);
  /// cudaFuncSetAttribute(MaxDynamicSharedMemorySize).
  Status allow_dynamic_shared(const void* kernel, std::size_t bytes);
  /// What a block of this kernel may have, static and dynamic together.
  std::size_t most_shared_bytes(const void* kernel) const;
  /// Puts the works into the stream, in their order.
  Status replay(const Recording& recording, Stream stream);

  /// The queue of a handle; the device's own for null.
  StreamQueue& queue(Stream stream);
  Stream make_stream();
  void destroy_stream(Stream stream);
  /// Runs all that is in its queues.
  Status synchronize();

  Options options;
  Statistics statistics;
  const std::string& last_fault() const { return last_fault_; }
  /// Status device_error with `report`, which becomes last_fault().
  Status report(std::string report);

  DeviceMemory& memory() { return memory_; }

 private:
  Status check(const Launch& launch) const;

  DeviceMemory memory_;
  StreamQueue own_queue_;
  std::map<void*, std::unique_ptr<StreamQueue>> streams_;
  std::map<const void*, std::size_t> dynamic_shared_limits_;
  std::string last_fault_;
};

/// The device whose queue the handle names; device 0 for null.
Device& device_of(Stream stream);

}  // namespace sinter::kernels::simt
