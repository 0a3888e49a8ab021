#include "kernels/simt/module.h"

#include <chrono>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/base/captures.h"
#include "kernels/base/families.h"
#include "kernels/simt/device.h"

namespace sinter::kernels {
namespace cuda {
SINTER_DECLARE_FAMILIES;
}

namespace {

constexpr int kDevices = 4;

/// What the module keeps beside a simt::Device.
struct Kept {
  std::vector<Stream> idle;   // destroyed streams, because events and other streams may still name them
  Status lost;                // what a call that returns nothing ran into; the next one tells it
};

Kept& kept(int device) {
  static Kept* const all = new Kept[kDevices];   // never destroyed, as the devices
  return all[device];
}

Captures& captures() {
  static Captures& all = *new Captures;
  return all;
}

simt::Device& device_at(int device) { return simt::Device::get(device); }

simt::Event& event_of(Event event) { return *static_cast<simt::Event*>(event.handle); }

/// `status`, or what got lost before it.
Status with_lost(int device, Status status) {
  const Status lost = std::exchange(kept(device).lost, {});
  return lost.ok() ? status : lost;
}

void synchronize_quietly(int device) {
  if (const Status status = device_at(device).synchronize(); !status.ok()) kept(device).lost = status;
}

/// A side that lies on another device is read or written by that one, which checks its buffers.
Status copy_now(int device, void* dst, const void* src, std::size_t bytes) {
  simt::Device* target = simt::Device::owner(dst);
  simt::Device* source = simt::Device::owner(src);
  if (target == nullptr || source == nullptr || target == source) {
    simt::Device* const owner = target != nullptr ? target : source;
    return (owner != nullptr ? *owner : device_at(device)).copy(dst, src, bytes);
  }
  std::vector<std::byte> staged(bytes);
  if (const Status status = source->copy(staged.data(), src, bytes); !status.ok()) return status;
  return target->copy(dst, staged.data(), bytes);
}

Status copy(int device, void* dst, const void* src, std::size_t bytes, Stream stream) {
  if (bytes == 0) return with_lost(device, {});
  if (simt::Device::owner(dst) == nullptr || simt::Device::owner(src) == nullptr)
    if (const Status refused = captures().refuse_host_copy(stream); !refused.ok()) return refused;
  const Status status =
      device_at(device).queue(stream).submit([=] { return copy_now(device, dst, src, bytes); });
  return with_lost(device, status);
}

Status fill(int device, void* dst, int byte, std::size_t bytes, Stream stream) {
  if (bytes == 0) return with_lost(device, {});
  simt::Device& target = device_at(device);
  return with_lost(device, target.queue(stream).submit([=, &target] { return target.fill(dst, byte, bytes); }));
}

Status allocate(int device, std::size_t bytes, void** memory) {
  *memory = nullptr;
  const Status refused = captures().refuse_allocation();
  return refused.ok() ? device_at(device).allocate(bytes, memory) : refused;
}

void deallocate(int device, void* memory) {
  if (memory == nullptr) return;
  synchronize_quietly(device);
  if (const Status status = device_at(device).deallocate(memory); !status.ok()) kept(device).lost = status;
}

Status allocate_host(int, std::size_t bytes, void** memory) {
  *memory = nullptr;
  if (const Status refused = captures().refuse_allocation(); !refused.ok()) return refused;
  if (posix_memalign(memory, 64, bytes) == 0) return {};
  return {StatusCode::out_of_memory, "the host has no memory left"};
}

void deallocate_host(int device, void* memory) {
  if (memory == nullptr) return;
  synchronize_quietly(device);
  std::free(memory);
}

Status create_stream(int device, Stream* stream) {
  std::vector<Stream>& idle = kept(device).idle;
  if (idle.empty()) {
    *stream = device_at(device).make_stream();
  } else {
    *stream = idle.back();
    idle.pop_back();
  }
  return {};
}

Status record_event(int device, Event event, Stream stream) {
  if (const Status refused = captures().record(stream, event); !refused.ok()) return refused;
  event_of(event).record(device_at(device).queue(stream));
  return with_lost(device, {});
}

/// Waits for the recording that stands now; a later one does not move the point.
Status wait_event(int device, Stream stream, Event event) {
  if (const Status refused = captures().wait(device, stream, event); !refused.ok()) return refused;
  simt::StreamQueue& queue = device_at(device).queue(stream);
  if (captures().has(stream)) return queue.join(event_of(event)), Status{};
  return with_lost(device, queue.submit([recorded = event_of(event)] { return recorded.synchronize(); }));
}

Status synchronize_event(int device, Event event) {
  const Status refused = captures().refuse_wait();
  return refused.ok() ? with_lost(device, event_of(event).synchronize()) : refused;
}

Status record_time(int device, Event event, Stream stream) {
  const auto passed = event_of(event).passed;
  return with_lost(device, device_at(device).queue(stream).submit([passed] {
    *passed = std::chrono::steady_clock::now();
    return Status{};
  }));
}

Status elapsed(int, Event from, Event to, double* microseconds) {
  const simt::Event::Time begin = *event_of(from).passed, end = *event_of(to).passed;
  *microseconds = std::chrono::duration<double, std::micro>(end - begin).count();
  return begin == simt::Event::Time{} || end == simt::Event::Time{} ? invalid("an event keeps no time yet") : Status{};
}

Status synchronize(int device, Stream stream) {
  const Status refused = captures().refuse_wait(stream);
  return refused.ok() ? with_lost(device, device_at(device).queue(stream).synchronize()) : refused;
}

// --- Graphs: recordings, whose rules are those of CUDA ---

Status begin_capture(int device, Stream stream) {
  if (const Status lost = with_lost(device, {}); !lost.ok()) return lost;
  const Status status = captures().begin(device, stream);
  if (status.ok()) device_at(device).queue(stream).begin_recording();
  return status;
}

Status end_capture(int device, Stream stream, Graph* graph) {
  if (graph != nullptr) *graph = {};
  if (const Status status = captures().may_end(stream); !status.ok()) return status;
  bool has_loose_end = false;
  for (const Stream joined : captures().joined(stream)) {
    simt::StreamQueue& queue = device_at(device).queue(joined);
    has_loose_end = has_loose_end || queue.has_loose_end();
    queue.end_recording();
  }
  const std::shared_ptr<simt::Recording> recording = device_at(device).queue(stream).end_recording();
  Status broken = captures().end(stream);
  if (broken.ok() && has_loose_end) broken = loose_end();
  if (graph == nullptr) return {};
  if (broken.ok()) graph->handle = new simt::Recording(std::move(*recording));
  return broken;
}

Status launch_graph(int device, Graph graph, Stream stream) {
  if (graph.handle == nullptr) return invalid("there is no graph to launch");
  if (const Status refused = captures().refuse_graph(stream); !refused.ok()) return refused;
  return with_lost(device, device_at(device).replay(*static_cast<simt::Recording*>(graph.handle), stream));
}

void destroy_graph(int device, Graph graph) {
  if (graph.handle == nullptr) return;
  synchronize_quietly(device);
  delete static_cast<simt::Recording*>(graph.handle);
}

void destroy_stream(int device, Stream stream) {
  if (stream.handle == nullptr) return;
  static_cast<void>(end_capture(device, stream, nullptr));   // an idle stream must not go on recording
  if (const Status status = device_at(device).queue(stream).synchronize(); !status.ok()) kept(device).lost = status;
  kept(device).idle.push_back(stream);
}

const DeviceApi& device_api() {
  static const DeviceApi api = {
      .device_count = [] { return kDevices; },
      .why_unavailable = [] { return ""; },
      .device_name = [](int) { return "emulated CUDA device"; },
      .make_current = [](int) { return Status{}; },
      .cheap_allocation = [] { return true; },
      .allocate = allocate,
      .deallocate = deallocate,
      .allocate_host = allocate_host,
      .deallocate_host = deallocate_host,
      .copy = copy,
      .fill = fill,
      .create_stream = create_stream,
      .destroy_stream = destroy_stream,
      .create_event = [](int, Event* event) { return event->handle = new simt::Event, Status{}; },
      .destroy_event = [](int, Event event) { delete static_cast<simt::Event*>(event.handle); },
      .record_event = record_event,
      .wait_event = wait_event,
      .synchronize_event = synchronize_event,
      .create_timed_event = [](int, Event* event) { return event->handle = new simt::Event, Status{}; },
      .record_time = record_time,
      .elapsed = elapsed,
      .synchronize = synchronize,
      .begin_capture = begin_capture,
      .end_capture = end_capture,
      .launch_graph = launch_graph,
      .destroy_graph = destroy_graph,
  };
  return api;
}

}  // namespace

const BackendModule& simt_module() {
  using namespace cuda;
  static const Family* const families[] = {SINTER_ALL_FAMILIES};
  static const Table table(families);
  static const BackendModule module = {kBackendAbi, "simt", "the CUDA kernels, emulated", table.rows, table.count,
                                       &device_api()};
  return module;
}

}  // namespace sinter::kernels
