#include "kernels/cuda/device.h"

#include <cuda_runtime_api.h>

#include <cstdio>
#include <string>
#include <vector>

#include "kernels/base/cuda_status.cuh"

namespace sinter::kernels {
namespace {

/// The oldest that the kernels are written for: A100.
constexpr int kOldestMajor = 8;

// --- Which devices there are ---

struct Devices {
  std::vector<std::string> names;
  std::string why_none;
};

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

std::string why_no_device(cudaError_t error) {
  int driver = 0;
  switch (error) {
    case cudaErrorInsufficientDriver:
      if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "there is no NVIDIA driver";
      return "the NVIDIA driver is for CUDA " + version(driver) + ", and this build needs " + version(CUDART_VERSION);
    case cudaErrorStubLibrary: return "the driver library that was found is the toolkit's stub";
    case cudaErrorNoDevice: return "the NVIDIA driver shows this program no GPU";
    default: return std::string("the CUDA runtime says: ") + cudaGetErrorString(error);
  }
}

Devices look_for_devices() {
  Devices found;
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count == 0) error = cudaErrorNoDevice;
  for (int device = 0; error == cudaSuccess && device < count; ++device) {
    cudaDeviceProp properties;
    error = cudaGetDeviceProperties(&properties, device);
    if (error != cudaSuccess) break;
    if (properties.major < kOldestMajor) {
      found.why_none = std::string("the ") + properties.name + " is older than compute capability 8.0";
      break;
    }
    found.names.emplace_back(properties.name);
  }
  if (error != cudaSuccess) found.why_none = why_no_device(error);
  if (!found.names.empty()) found.why_none.clear();
  static_cast<void>(cudaGetLastError());
  return found;
}

const Devices& devices() {
  static const Devices found = look_for_devices();
  return found;
}

/// Makes a device the thread's current one for as long as it lives. Both questions are answered from the thread's own
/// memory.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    static_cast<void>(cudaGetDevice(&before_));
    if (before_ == device) before_ = kSame;
    if (before_ != kSame) status_ = status_of(cudaSetDevice(device));
  }
  ~OnDevice() {
    if (before_ != kSame) static_cast<void>(cudaSetDevice(before_));
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  const Status& status() const { return status_; }

 private:
  static constexpr int kSame = -1;
  int before_ = 0;
  Status status_;
};

/// call() with `device` as the current one.
template <class Call>
Status on(int device, Call&& call) {
  const OnDevice current(device);
  return current.status().ok() ? status_of(call()) : current.status();
}

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }
cudaEvent_t native(Event event) { return static_cast<cudaEvent_t>(event.handle); }

// --- Memory ---

Status allocate(int device, std::size_t bytes, void** memory) {
  *memory = nullptr;
  return on(device, [&] { return cudaMalloc(memory, bytes); });
}

Status allocate_host(int device, std::size_t bytes, void** memory) {
  *memory = nullptr;
  return on(device, [&] { return cudaHostAlloc(memory, bytes, cudaHostAllocPortable); });
}

/// Nothing that is still under way may lose its memory.
template <cudaError_t (*free)(void*)>
void deallocate_after_all_work(int device, void* memory) {
  if (memory == nullptr) return;
  static_cast<void>(on(device, [] { return cudaDeviceSynchronize(); }));
  static_cast<void>(on(device, [&] { return free(memory); }));
}

Status copy(int device, void* dst, const void* src, std::size_t bytes, Stream stream) {
  if (bytes == 0) return {};
  return on(device, [&] { return cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDefault, native(stream)); });
}

Status fill(int device, void* dst, int byte, std::size_t bytes, Stream stream) {
  if (bytes == 0) return {};
  return on(device, [&] { return cudaMemsetAsync(dst, byte, bytes, native(stream)); });
}

// --- Streams and events ---

Status create_stream(int device, Stream* stream) {
  cudaStream_t made = nullptr;
  const Status status = on(device, [&] { return cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking); });
  *stream = {made};
  return status;
}

Status synchronize(int device, Stream stream) {
  return on(device, [&] { return cudaStreamSynchronize(native(stream)); });
}

void destroy_stream(int device, Stream stream) {
  if (stream.handle == nullptr) return;
  static_cast<void>(synchronize(device, stream));
  static_cast<void>(on(device, [&] { return cudaStreamDestroy(native(stream)); }));
}

Status create_event(int device, Event* event) {
  cudaEvent_t made = nullptr;
  const Status status = on(device, [&] { return cudaEventCreateWithFlags(&made, cudaEventDisableTiming); });
  *event = {made};
  return status;
}

Status record_event(int device, Event event, Stream stream) {
  return on(device, [&] { return cudaEventRecord(native(event), native(stream)); });
}

Status wait_event(int device, Stream stream, Event event) {
  return on(device, [&] { return cudaStreamWaitEvent(native(stream), native(event), 0); });
}

void destroy_event(int device, Event event) {
  if (event.handle != nullptr) static_cast<void>(on(device, [&] { return cudaEventDestroy(native(event)); }));
}

}  // namespace

const DeviceApi& cuda_device_api() {
  static const DeviceApi api = {
      .device_count = [] { return static_cast<int>(devices().names.size()); },
      .why_unavailable = [] { return devices().why_none.c_str(); },
      .device_name = [](int device) { return devices().names[static_cast<std::size_t>(device)].c_str(); },
      .make_current = [](int device) { return status_of(cudaSetDevice(device)); },
      .cheap_allocation = [] { return false; },
      .allocate = allocate,
      .deallocate = deallocate_after_all_work<cudaFree>,
      .allocate_host = allocate_host,
      .deallocate_host = deallocate_after_all_work<cudaFreeHost>,
      .copy = copy,
      .fill = fill,
      .create_stream = create_stream,
      .destroy_stream = destroy_stream,
      .create_event = create_event,
      .destroy_event = destroy_event,
      .record_event = record_event,
      .wait_event = wait_event,
      .synchronize_event = [](int device,
                              Event event) { return on(device, [&] { return cudaEventSynchronize(native(event)); }); },
      .synchronize = synchronize,
  };
  return api;
}

}  // namespace sinter::kernels
