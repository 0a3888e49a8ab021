#include "kernels/simt/device.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "kernels/simt/checker.h"
#include "kernels/simt/grid.h"
#include "kernels/simt/shared_memory.h"

namespace sinter::kernels::simt {
namespace {

constexpr unsigned kMostThreads = 1024, kMostThreadsZ = 64, kMostBlocksYZ = 65535, kMostBlocksX = 0x7fffffff;

}  // namespace

Status StreamQueue::submit(Work work) {
  if (recording_) {
    recording_->push_back(std::move(work));
    ++recorded_;
    return {};
  }
  pending_.push_back(std::move(work));
  return device_.options.lazy_streams ? Status{} : synchronize();
}

Status StreamQueue::run_until(std::uint64_t position) {
  while (ran_ < position && !pending_.empty()) {
    const Work work = std::move(pending_.front());
    pending_.pop_front();
    ++ran_;
    if (const Status status = work(); !status.ok()) return status;
  }
  return {};
}

void StreamQueue::join(const Event& event) {
  if (recording_ == nullptr) recording_ = event.stream->recording_;
  ++recorded_;
  if (event.stream != this) event.stream->awaited_ = std::max(event.stream->awaited_, event.position);
}

std::shared_ptr<Recording> StreamQueue::end_recording() {
  recorded_ = awaited_ = 0;
  return std::exchange(recording_, nullptr);
}

Device::Device() : own_queue_(*this) {}
Device::~Device() = default;

namespace {

/// The devices that get() made.
struct Devices {
  std::mutex lock;
  std::map<int, std::unique_ptr<Device>> by_index;

  /// Never destroyed: a program's last tensor may be freed after every static of this library.
  static Devices& all() {
    static Devices& devices = *new Devices();
    return devices;
  }
};

}  // namespace

Device& Device::get(int index) {
  Devices& devices = Devices::all();
  const std::lock_guard guard(devices.lock);
  std::unique_ptr<Device>& device = devices.by_index[index];
  if (device == nullptr) {
    device = std::make_unique<Device>();
    device->options.lazy_streams = index % 2 == 1;   // see simt_module()
  }
  return *device;
}

Device* Device::owner(const void* address) {
  Devices& devices = Devices::all();
  const std::lock_guard guard(devices.lock);
  for (const auto& [index, device] : devices.by_index)
    if (device->memory().contains(address)) return device.get();
  return nullptr;
}

Status Device::report(std::string report) {
  last_fault_ = std::move(report);
  return {StatusCode::device_error, last_fault_.c_str()};
}

Status Device::allocate(std::size_t bytes, void** memory) {
  *memory = memory_.allocate(bytes);
  if (*memory == nullptr) return {StatusCode::out_of_memory, "the emulated device has no gap of this size left"};
  return {};
}

Status Device::deallocate(void* memory) {
  if (memory == nullptr || memory_.deallocate(memory)) return {};
  return report("deallocate: the pointer is no buffer of this device");
}

Status Device::copy(void* to, const void* from, std::size_t bytes) {
  if (!memory_.is_sound(to, bytes) || !memory_.is_sound(from, bytes))
    return report("copy of " + std::to_string(bytes) + " bytes leaves a device buffer");
  const DeviceMemory::AccessScope scope(memory_);
  std::memcpy(to, from, bytes);
  if (Checker* checker = memory_.checker()) checker->written_by_host(to, bytes);
  return {};
}

Status Device::fill(void* to, int byte, std::size_t bytes) {
  if (!memory_.contains(to) || !memory_.is_sound(to, bytes))
    return report("fill of " + std::to_string(bytes) + " bytes leaves a device buffer");
  const DeviceMemory::AccessScope scope(memory_);
  std::memset(to, byte, bytes);
  if (Checker* checker = memory_.checker()) checker->written_by_host(to, bytes);
  return {};
}

Status Device::check(const Launch& launch) const {
  const Extent3 block = launch.block, grid = launch.grid;
  const std::uint64_t threads = block.count();
  if (threads == 0 || threads > kMostThreads || block.z > kMostThreadsZ)
    return invalid("a block must have 1 to 1024 threads, at most 64 of them along z");
  if (grid.count() == 0 || grid.x > kMostBlocksX || grid.y > kMostBlocksYZ || grid.z > kMostBlocksYZ)
    return invalid("a grid must have 1 to 2^31 - 1 blocks along x and 1 to 65535 along y and z");
  const auto found = dynamic_shared_limits_.find(launch.kernel);
  const std::size_t limit = found == dynamic_shared_limits_.end() ? kSharedBytesByDefault : found->second;
  if (launch.dynamic_shared_bytes > limit)
    return invalid("more dynamic shared memory than allow_dynamic_shared permits");
  return {};
}

Status Device::launch(Launch launch, Stream stream) {
  if (const Status status = check(launch); !status.ok()) return status;
  return queue(stream).submit([this, launch = std::move(launch)] {
    ++statistics.launches;
    std::string fault = Grid::of_this_thread().run(*this, launch);
    return fault.empty() ? Status{} : report(std::move(fault));
  });
}

Status Device::allow_dynamic_shared(const void* kernel, std::size_t bytes) {
  if (bytes > options.most_shared_bytes)
    return unsupported("a block of this kernel asks for more shared memory than the device has for it");
  dynamic_shared_limits_[kernel] = bytes;
  return {};
}

std::size_t Device::most_shared_bytes(const void* kernel) const {
  return dynamic_shared_limits_.contains(kernel) ? options.most_shared_bytes : kSharedBytesByDefault;
}

Status Device::replay(const Recording& recording, Stream stream) {
  for (const Work& each : recording)
    if (const Status status = queue(stream).submit(each); !status.ok()) return status;
  return {};
}

StreamQueue& Device::queue(Stream stream) {
  return stream.handle == nullptr ? own_queue_ : *static_cast<StreamQueue*>(stream.handle);
}

Stream Device::make_stream() {
  auto made = std::make_unique<StreamQueue>(*this);
  void* const handle = made.get();
  streams_.emplace(handle, std::move(made));
  return {handle};
}

void Device::destroy_stream(Stream stream) { streams_.erase(stream.handle); }

Status Device::synchronize() {
  Status first = own_queue_.synchronize();
  for (const auto& [handle, queue] : streams_)
    if (const Status status = queue->synchronize(); first.ok()) first = status;
  return first;
}

Device& device_of(Stream stream) {
  return stream.handle == nullptr ? Device::get(0) : static_cast<StreamQueue*>(stream.handle)->device();
}

}  // namespace sinter::kernels::simt
