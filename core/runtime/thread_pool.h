// The threads that CPU kernels run on.
#pragma once

#include <memory>

#include "kernels/base/stream.h"

namespace sinter {

/// A pool that spins briefly before it sleeps, because a BERT step has hundreds of short parallel regions. Each thread
/// takes the tasks of its own part of a region first, then those that others have not begun; which thread runs a task
/// never changes a result (kernels fix their own borders). Every thread of the pool flushes denormals. One region at a
/// time: concurrent callers wait for each other.
class ThreadPool final : public kernels::Executor {
 public:
  /// `threads` counts the caller; at least 1. Starts threads - 1 threads.
  explicit ThreadPool(int threads);
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int thread_count() const override;
  void run(std::int64_t count, void (*task)(void*, std::int64_t), void* context) override;

  kernels::Stream stream() { return {static_cast<kernels::Executor*>(this)}; }

  /// Cores that this process may use (its affinity mask and cgroup quota), at least 1.
  static int available_cores();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace sinter
