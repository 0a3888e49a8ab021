#include "kernels/base/captures.h"

#include <algorithm>

namespace sinter::kernels {

template <class List, class Matches>
auto Captures::find(List& captures, Matches&& matches) -> decltype(captures.data()) {
  const auto found = std::ranges::find_if(captures, matches);
  return found == captures.end() ? nullptr : &*found;
}

bool Captures::Capture::has(Stream which) const {
  return stream == which.handle || std::ranges::find(joined, which.handle) != joined.end();
}

Status Captures::break_capture(Capture& capture, const char* sentence) {
  const Status answer = unsupported(sentence);
  if (capture.broken.ok()) capture.broken = answer;
  return answer;
}

template <class Forbids>
Status Captures::refuse(const char* sentence, Forbids&& forbids) {
  if (count_.load(std::memory_order_acquire) == 0) return {};
  const std::scoped_lock lock(mutex_);
  Status answer;
  for (Capture& capture : captures_) {
    if (!forbids(capture)) continue;
    answer = break_capture(capture, sentence);
  }
  return answer;
}

Status Captures::begin(int device, Stream stream) {
  if (stream.handle == nullptr) return invalid("the null stream cannot be captured");
  const std::scoped_lock lock(mutex_);
  if (find(captures_, [=](const Capture& each) { return each.has(stream); }) != nullptr)
    return invalid("the stream is captured already");
  captures_.push_back({.device = device, .stream = stream.handle, .thread = std::this_thread::get_id()});
  count_.store(static_cast<int>(captures_.size()), std::memory_order_release);
  return {};
}

Status Captures::may_end(Stream stream) const {
  const std::scoped_lock lock(mutex_);
  const Capture* const capture = find(captures_, [=](const Capture& each) { return each.stream == stream.handle; });
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
  return find(captures_, [=](const Capture& each) { return each.has(stream); }) != nullptr;
}

std::vector<Stream> Captures::joined(Stream stream) const {
  const std::scoped_lock lock(mutex_);
  const Capture* const capture = find(captures_, [=](const Capture& each) { return each.stream == stream.handle; });
  std::vector<Stream> streams;
  if (capture != nullptr)
    for (void* const handle : capture->joined) streams.push_back({handle});
  return streams;
}

bool Captures::forbid_freeing(int device) const {
  if (count_.load(std::memory_order_acquire) == 0) return false;
  const std::scoped_lock lock(mutex_);
  const auto me = std::this_thread::get_id();
  return find(captures_, [=](const Capture& each) { return each.device == device || each.thread == me; }) != nullptr;
}

Status Captures::refuse_host_copy(Stream stream) {
  return refuse("a captured stream takes no copies from or to the host",
                [=](const Capture& each) { return each.has(stream); });
}

Status Captures::record(Stream stream, Event event) {
  if (count_.load(std::memory_order_acquire) == 0) return {};
  const std::scoped_lock lock(mutex_);
  for (Capture& each : captures_) std::erase(each.events, event.handle);
  Capture* const capture = find(captures_, [=](const Capture& each) { return each.has(stream); });
  if (capture == nullptr) return {};
  if (capture->thread != std::this_thread::get_id())
    return break_capture(*capture, "only the thread that captures a stream can record an event in it");
  capture->events.push_back(event.handle);
  return {};
}

Status Captures::wait(int device, Stream stream, Event event) {
  if (count_.load(std::memory_order_acquire) == 0) return {};
  const std::scoped_lock lock(mutex_);
  Capture* const waits = find(captures_, [=](const Capture& each) { return each.has(stream); });
  Capture* const joins = find(captures_, [=](const Capture& each) {
    return std::ranges::find(each.events, event.handle) != each.events.end();
  });
  if (waits != nullptr && waits != joins)
    return break_capture(*waits, "a captured stream cannot wait for an event that its capture does not hold");
  if (joins == nullptr) return {};
  if (joins->thread != std::this_thread::get_id())
    return break_capture(*joins, "only the thread that captures a stream can wait for an event in it");
  if (joins->device != device || stream.handle == nullptr)
    return break_capture(*joins, "neither the null stream nor another device's can join a capture");
  if (waits == nullptr) joins->joined.push_back(stream.handle);
  return {};
}

Status Captures::refuse_graph(Stream stream) {
  return refuse("a captured stream takes no graphs", [=](const Capture& each) { return each.has(stream); });
}

Status Captures::refuse_wait(Stream stream) {
  const Status status = refuse("nobody can wait for a captured stream: its work does not run",
                               [=](const Capture& each) { return each.has(stream); });
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
