#include "train/ranks/rendezvous_mailbox.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace sinter::train {

RendezvousMailbox::RendezvousMailbox(std::function<void(const RankFailure&)> on_failure)
    : on_failure_(std::move(on_failure)), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (!wake_.is_open()) fail(ErrorCode::io, "the system has no descriptor for the rendezvous: ", std::strerror(errno));
}

void RendezvousMailbox::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_.descriptor(), &one, sizeof(one));   // full: awake already
}

void RendezvousMailbox::clear_wake() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = read(wake_.descriptor(), &count, sizeof(count));   // empty: nothing to clear
}

void RendezvousMailbox::post(Frame frame) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(frame));
  }
  wake();
}

void RendezvousMailbox::at_operation(bool waits) { ++(waits ? arrivals_ : departures_); }

void RendezvousMailbox::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
}

std::vector<Frame> RendezvousMailbox::take_posted() {
  const std::lock_guard lock(mutex_);
  return std::exchange(posted_, {});
}

bool RendezvousMailbox::is_stopping() const {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

std::optional<RankFailure> RendezvousMailbox::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

template <class Condition>
void RendezvousMailbox::wait(std::unique_lock<std::mutex>& lock, Condition condition) {
  changed_.wait(lock, [&] { return failure_ || refusal_ || condition(); });
  if (failure_) fail(ErrorCode::io, failure_->sentence());
  if (refusal_) fail(refusal_->is_usage ? ErrorCode::usage : ErrorCode::io, refusal_->sentence);
}

void RendezvousMailbox::wait_for_start() {
  std::unique_lock lock(mutex_);
  wait(lock, [&] { return started_; });
}

std::vector<std::byte> RendezvousMailbox::wait_for_broadcast() {
  std::unique_lock lock(mutex_);
  wait(lock, [&] { return !broadcasts_.empty(); });
  std::vector<std::byte> bytes = std::move(broadcasts_.front());
  broadcasts_.pop_front();
  return bytes;
}

int RendezvousMailbox::wait_for_flag() {
  std::unique_lock lock(mutex_);
  wait(lock, [&] { return flag_.has_value(); });
  const int flag = *flag_;
  flag_.reset();
  return flag;
}

void RendezvousMailbox::wait_for_farewell() {
  std::unique_lock lock(mutex_);
  wait(lock, [&] { return farewell_; });
}

bool RendezvousMailbox::wait_for_failure(std::chrono::milliseconds at_most) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, at_most, [&] { return failure_ || refusal_ || farewell_; });
}

void RendezvousMailbox::deliver(const Frame& frame) {
  std::optional<RankFailure> failure;
  if (frame.kind == FrameKind::failure) failure = read_failure(frame);
  {
    const std::lock_guard lock(mutex_);
    if (frame.kind == FrameKind::start) started_ = true;
    if (frame.kind == FrameKind::broadcast) broadcasts_.push_back(frame.body);
    if (frame.kind == FrameKind::flag_result) flag_ = FrameReader(frame).small_number();
    if (frame.kind == FrameKind::farewell) farewell_ = true;
    if (frame.kind == FrameKind::refusal) refusal_ = Refusal::read(frame);
    if (failure) failure_ = failure;
  }
  changed_.notify_all();
  if (failure && on_failure_) on_failure_(*failure);
}

}  // namespace sinter::train
