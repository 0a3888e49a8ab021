#include "kernels/base/captures.h"

#include <algorithm>

namespace sinter::kernels {

template <class Matches>
const Captures::Capture* Captures::find(Matches&& matches) const {
  const auto found = std::find_if(captures_.begin(), captures_.end(), matches);
  return found == captures_.end() ? nullptr : &*found;
}

template <class Forbids>
Status Captures::refuse(const char* sentence, Forbids&& forbids) {
  if (count_.load(std::memory_order_acquire) == 0) return {};
  const std::scoped_lock lock(mutex_);
  Status answer;
  for (Capture& capture : captures_) {
    if (!forbids(capture)) continue;
    answer = unsupported(sentence);
    if (capture.broken.ok()) capture.broken = answer;
  }
  return answer;
}

Status Captures::begin(int device, Stream stream) {
  if (stream.handle == nullptr) return invalid("the null stream cannot be captured");
  const std::scoped_lock lock(mutex_);
  if (find([=](const Capture& each) { return each.stream == stream.handle; }) != nullptr)
    return invalid("the stream is captured already");
  captures_.push_back({.device = device, .stream = stream.handle, .thread = std::this_thread::get_id(), .broken = {}});
  count_.store(static_cast<int>(captures_.size()), std::memory_order_release);
  return {};
}

Status Captures::may_end(Stream stream) const {
  const std::scoped_lock lock(mutex_);
  const Capture* const capture = find([=](const Capture& each) { return each.stream == stream.handle; });
  if (capture == nullptr) return invalid("the stream is not captured");
  if (capture->thread != std::this_thread::get_id()) return invalid("another thread began the capture");
  return {};
}

Status Captures::end(Stream stream) {
  const std::scoped_lock lock(mutex_);
  Status broken;
  std::erase_if(captures_, [&](const Capture& each) {
    if (each.stream != stream.handle) return false;
    broken = each.broken;
    return true;
  });
  count_.store(static_cast<int>(captures_.size()), std::memory_order_release);
  return broken;
}

bool Captures::has(Stream stream) const {
  if (count_.load(std::memory_order_acquire) == 0) return false;
  const std::scoped_lock lock(mutex_);
  return find([=](const Capture& each) { return each.stream == stream.handle; }) != nullptr;
}

bool Captures::forbid_freeing(int device) const {
  if (count_.load(std::memory_order_acquire) == 0) return false;
  const std::scoped_lock lock(mutex_);
  const auto me = std::this_thread::get_id();
  return find([=](const Capture& each) { return each.device == device || each.thread == me; }) != nullptr;
}

Status Captures::refuse_host_copy(Stream stream) {
  return refuse("a captured stream takes no copies from or to the host",
                [=](const Capture& each) { return each.stream == stream.handle; });
}

Status Captures::refuse_event(Stream stream) {
  return refuse("a captured stream takes no events", [=](const Capture& each) { return each.stream == stream.handle; });
}

Status Captures::refuse_graph(Stream stream) {
  return refuse("a captured stream takes no graphs", [=](const Capture& each) { return each.stream == stream.handle; });
}

Status Captures::refuse_wait(Stream stream) {
  const Status status = refuse("nobody can wait for a captured stream: its work does not run",
                               [=](const Capture& each) { return each.stream == stream.handle; });
  return status.ok() ? refuse_wait() : status;
}

Status Captures::refuse_wait() {
  return refuse("a thread cannot wait for a device while it captures a stream",
                [me = std::this_thread::get_id()](const Capture& each) { return each.thread == me; });
}

Status Captures::refuse_allocation() {
  return refuse("a thread cannot allocate memory while it captures a stream",
                [me = std::this_thread::get_id()](const Capture& each) { return each.thread == me; });
}

}  // namespace sinter::kernels
