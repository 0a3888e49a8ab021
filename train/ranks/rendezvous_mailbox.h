// Between the program's threads and the rendezvous' own.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "train/ranks/rendezvous.h"
#include "train/ranks/rendezvous_frame.h"
#include "train/ranks/rendezvous_socket.h"

namespace sinter::train {

/// Frames of the program wait here for the rendezvous' thread, and what came for the program waits here for it. The
/// thread sleeps in poll() and is woken through a descriptor.
class RendezvousMailbox {
 public:
  explicit RendezvousMailbox(std::function<void(const RankFailure&)> on_failure);

  /// The program's side. Everything that waits throws the failure, or the refusal of a start, when there is one.
  void post(Frame frame);
  void wait_for_start();
  std::vector<std::byte> wait_for_broadcast();
  int wait_for_flag();
  void wait_for_farewell();
  /// False when there is none after that time.
  bool wait_for_failure(std::chrono::milliseconds at_most);
  std::optional<RankFailure> failure() const;
  void set_step(std::int64_t step) { step_ = step; }
  std::int64_t step() const { return step_; }
  void at_operation(bool waits);
  std::shared_ptr<std::atomic<std::int64_t>> looks() const { return looks_; }
  OperationProgress progress() const { return {arrivals_, departures_, *looks_}; }
  void stop();

  /// The side of the rendezvous' thread.
  int wake_descriptor() const { return wake_.descriptor(); }
  void clear_wake();
  std::vector<Frame> take_posted();
  bool is_stopping() const;
  /// A frame of rank 0 for this rank: start, broadcast, flag_result, farewell, failure or refusal.
  void deliver(const Frame& frame);

 private:
  template <class Condition>
  void wait(std::unique_lock<std::mutex>& lock, Condition condition);
  void wake();

  const std::function<void(const RankFailure&)> on_failure_;
  Socket wake_;   // an eventfd
  std::atomic<std::int64_t> step_ = -1, arrivals_ = 0, departures_ = 0;
  const std::shared_ptr<std::atomic<std::int64_t>> looks_ = std::make_shared<std::atomic<std::int64_t>>(0);
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Frame> posted_;
  bool stopping_ = false;
  bool started_ = false;
  bool farewell_ = false;
  std::deque<std::vector<std::byte>> broadcasts_;
  std::optional<int> flag_;
  std::optional<RankFailure> failure_;
  std::optional<Refusal> refusal_;
};

}  // namespace sinter::train
