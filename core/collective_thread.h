// Carries out collective operations one after the other, beside the thread that calls them.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "core/process_group.h"

namespace sinter {

/// The thread that ProcessGroup::begin() runs operations on.
class CollectiveThread {
 public:
  CollectiveThread() : thread_([this](const std::stop_token& stop) { work(stop); }) {}
  /// Nothing may be under way: whoever began it holds its Work, which waits.
  ~CollectiveThread() = default;
  CollectiveThread(const CollectiveThread&) = delete;
  CollectiveThread& operator=(const CollectiveThread&) = delete;

  /// Behind all that was begun before. The Work must not outlive this.
  std::unique_ptr<Work> begin(std::function<void()> operation);
  void wait_until_idle();

 private:
  struct Task;
  class Waiting;

  void work(const std::stop_token& stop);

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<std::shared_ptr<Task>> tasks_;   // the first is under way
  std::jthread thread_;                       // behind what it uses
};

}  // namespace sinter
