// Where a kernel runs: an opaque stream handle. On the CPU it points to an Executor, or is null for the calling thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace sinter::kernels {

/// Opaque handle of an ordered queue of work: `cudaStream_t` on CUDA, `Executor*` on the CPU.
struct Stream {
  void* handle = nullptr;
};

/// Opaque handle of a point in a stream: `cudaEvent_t` on CUDA. See DeviceApi.
struct Event {
  void* handle = nullptr;
};

/// Opaque handle of captured work that can be launched again and again: `cudaGraphExec_t` on CUDA. See DeviceApi.
struct Graph {
  void* handle = nullptr;
};

/// Runs independent tasks of one kernel on several threads. core/runtime/thread_pool.h has the pool that sinter uses;
/// a program that uses the kernels alone may bring its own, or pass a null stream and run on the calling thread.
class Executor {
 public:
  virtual ~Executor() = default;

  /// Number of threads that `run` uses, the calling one included; at least 1.
  virtual int thread_count() const = 0;

  /// Calls task(context, i) once for each i in [0, count), in any order and on any thread, and returns when all have
  /// ended. Not reentrant: a task must not call `run` on the same executor. Tasks must not throw.
  virtual void run(std::int64_t count, void (*task)(void* context, std::int64_t index), void* context) = 0;
};

inline Executor* executor(Stream stream) { return static_cast<Executor*>(stream.handle); }

inline int thread_count(Stream stream) { return stream.handle == nullptr ? 1 : executor(stream)->thread_count(); }

/// Calls fn(i) for each i in [0, count) on the stream's threads.
template <class Fn>
void parallel_tasks(Stream stream, std::int64_t count, Fn&& fn) {
  if (stream.handle == nullptr || count <= 1 || executor(stream)->thread_count() == 1) {
    for (std::int64_t i = 0; i < count; ++i) fn(i);
    return;
  }
  using Body = std::remove_reference_t<Fn>;
  executor(stream)->run(
      count, [](void* context, std::int64_t index) { (*static_cast<Body*>(context))(index); },
      const_cast<void*>(static_cast<const void*>(&fn)));
}

/// Calls fn(begin, end) for consecutive ranges that cover [0, count); every range but the last has exactly `grain`
/// elements, so the borders depend on neither the number of threads nor the machine.
template <class Fn>
void parallel_ranges(Stream stream, std::int64_t count, std::int64_t grain, Fn&& fn) {
  const std::int64_t ranges = (count + grain - 1) / grain;
  parallel_tasks(stream, ranges, [&](std::int64_t i) { fn(i * grain, std::min(count, (i + 1) * grain)); });
}

}  // namespace sinter::kernels
