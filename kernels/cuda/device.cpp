#include "kernels/cuda/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/base/captures.h"
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
cudaGraphExec_t native(Graph graph) { return static_cast<cudaGraphExec_t>(graph.handle); }

Captures& captures() {
  static Captures& all = *new Captures;   // tensors of static storage duration come back after every destructor
  return all;
}

// --- Giving back ---

/// Frees `what` when the device no longer uses it.
using Free = cudaError_t (*)(void* what);

/// What came back during a capture. Freeing waits for the device, or for a stream, which CUDA does not allow then: the
/// wait would fail, the memory would be lost, and the capture with it.
struct Returns {
  struct Return {
    int device;
    Free free;
    void* what;
  };
  std::mutex mutex;   ///< held while something is freed, and while a capture begins
  std::vector<Return> later;

  static Returns& instance() {
    static Returns& all = *new Returns;
    return all;
  }
};

template <Free free>
void give_back(int device, void* what) {
  if (what == nullptr) return;
  Returns& returns = Returns::instance();
  const std::scoped_lock lock(returns.mutex);
  if (captures().forbid_freeing(device))
    returns.later.push_back({device, free, what});
  else
    static_cast<void>(on(device, [&] { return free(what); }));
}

/// Frees what waited for the end of a capture, but what must wait for others.
void free_returns() {
  Returns& returns = Returns::instance();
  const std::scoped_lock lock(returns.mutex);
  std::erase_if(returns.later, [](const Returns::Return& each) {
    if (captures().forbid_freeing(each.device)) return false;
    static_cast<void>(on(each.device, [&] { return each.free(each.what); }));
    return true;
  });
}

/// Nothing that is still under way may lose its memory.
template <cudaError_t (*free)(void*)>
cudaError_t free_after_all_work(void* memory) {
  static_cast<void>(cudaDeviceSynchronize());
  return free(memory);
}

cudaError_t free_stream(void* stream) {
  static_cast<void>(cudaStreamSynchronize(static_cast<cudaStream_t>(stream)));
  return cudaStreamDestroy(static_cast<cudaStream_t>(stream));
}

cudaError_t free_graph(void* graph) {
  static_cast<void>(cudaDeviceSynchronize());
  return cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

// --- Memory ---

Status allocate(int device, std::size_t bytes, void** memory) {
  *memory = nullptr;
  if (const Status refused = captures().refuse_allocation(); !refused.ok()) return refused;
  return on(device, [&] { return cudaMalloc(memory, bytes); });
}

Status allocate_host(int device, std::size_t bytes, void** memory) {
  *memory = nullptr;
  if (const Status refused = captures().refuse_allocation(); !refused.ok()) return refused;
  return on(device, [&] { return cudaHostAlloc(memory, bytes, cudaHostAllocPortable); });
}

bool is_device_memory(const void* address) {
  cudaPointerAttributes attributes{};
  return status_of(cudaPointerGetAttributes(&attributes, address)).ok() && attributes.type == cudaMemoryTypeDevice;
}

Status copy(int device, void* dst, const void* src, std::size_t bytes, Stream stream) {
  if (bytes == 0) return {};
  if (captures().has(stream) && (!is_device_memory(dst) || !is_device_memory(src)))
    return captures().refuse_host_copy(stream);
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
  if (const Status refused = captures().refuse_wait(stream); !refused.ok()) return refused;
  return on(device, [&] { return cudaStreamSynchronize(native(stream)); });
}

Status create_event(int device, Event* event) {
  cudaEvent_t made = nullptr;
  const Status status = on(device, [&] { return cudaEventCreateWithFlags(&made, cudaEventDisableTiming); });
  *event = {made};
  return status;
}

Status record_event(int device, Event event, Stream stream) {
  if (const Status refused = captures().record(stream, event); !refused.ok()) return refused;
  return on(device, [&] { return cudaEventRecord(native(event), native(stream)); });
}

Status wait_event(int device, Stream stream, Event event) {
  if (const Status refused = captures().wait(device, stream, event); !refused.ok()) return refused;
  return on(device, [&] { return cudaStreamWaitEvent(native(stream), native(event), 0); });
}

Status synchronize_event(int device, Event event) {
  if (const Status refused = captures().refuse_wait(); !refused.ok()) return refused;
  return on(device, [&] { return cudaEventSynchronize(native(event)); });
}

Status create_timed_event(int device, Event* event) {
  cudaEvent_t made = nullptr;
  const Status status = on(device, [&] { return cudaEventCreate(&made); });
  *event = {made};
  return status;
}

Status record_time(int device, Event event, Stream stream) {
  const unsigned flags = captures().has(stream) ? cudaEventRecordExternal : cudaEventRecordDefault;
  return on(device, [&] { return cudaEventRecordWithFlags(native(event), native(stream), flags); });
}

Status elapsed(int device, Event from, Event to, double* microseconds) {
  float milliseconds = 0;
  const Status status =
      on(device, [&] { return cudaEventElapsedTime(&milliseconds, native(from), native(to)); });
  *microseconds = 1000.0 * milliseconds;
  return status;
}

void destroy_event(int device, Event event) {
  if (event.handle != nullptr) static_cast<void>(on(device, [&] { return cudaEventDestroy(native(event)); }));
}

// --- Graphs ---

/// Of CUDA's modes the one that watches this thread alone: a call of it that a graph cannot hold, inside a library too,
/// ends the capture with an error, while a loader's thread goes on allocating, copying and waiting for events. Relaxed
/// would let the former pass, global would refuse the latter.
constexpr cudaStreamCaptureMode kMode = cudaStreamCaptureModeThreadLocal;

Status begin_capture(int device, Stream stream) {
  const std::scoped_lock lock(Returns::instance().mutex);
  if (const Status status = captures().begin(device, stream); !status.ok()) return status;
  const Status status = on(device, [&] { return cudaStreamBeginCapture(native(stream), kMode); });
  if (!status.ok()) static_cast<void>(captures().end(stream));
  return status;
}

/// The upload lets a lack of memory show here, and not at the first launch.
Status instantiate(int device, cudaGraph_t captured, Stream stream, Graph* graph) {
  cudaGraphExec_t made = nullptr;
  Status status = on(device, [&] { return cudaGraphInstantiate(&made, captured, 0); });
  if (!status.ok()) return status;
  status = on(device, [&] { return cudaGraphUpload(made, native(stream)); });
  if (status.ok())
    graph->handle = made;
  else
    give_back<free_graph>(device, made);
  return status;
}

Status end_capture(int device, Stream stream, Graph* graph) {
  if (graph != nullptr) *graph = {};
  if (const Status status = captures().may_end(stream); !status.ok()) return status;
  cudaGraph_t captured = nullptr;
  cudaError_t ended = cudaSuccess;
  Status status = on(device, [&] { return ended = cudaStreamEndCapture(native(stream), &captured); });
  if (ended == cudaErrorStreamCaptureUnjoined) status = loose_end();
  if (const Status broken = captures().end(stream); !broken.ok()) status = broken;
  if (status.ok() && graph != nullptr) status = instantiate(device, captured, stream, graph);
  if (captured != nullptr) static_cast<void>(on(device, [&] { return cudaGraphDestroy(captured); }));
  free_returns();
  return graph == nullptr ? Status{} : status;
}

Status launch_graph(int device, Graph graph, Stream stream) {
  if (graph.handle == nullptr) return invalid("there is no graph to launch");
  if (const Status refused = captures().refuse_graph(stream); !refused.ok()) return refused;
  return on(device, [&] { return cudaGraphLaunch(native(graph), native(stream)); });
}

void destroy_stream(int device, Stream stream) {
  static_cast<void>(end_capture(device, stream, nullptr));
  give_back<free_stream>(device, stream.handle);
}

}  // namespace

bool captures_forbid_waiting(int device) { return captures().forbid_freeing(device); }

const DeviceApi& cuda_device_api() {
  static const DeviceApi api = {
      .device_count = [] { return static_cast<int>(devices().names.size()); },
      .why_unavailable = [] { return devices().why_none.c_str(); },
      .device_name = [](int device) { return devices().names[static_cast<std::size_t>(device)].c_str(); },
      .make_current = [](int device) { return status_of(cudaSetDevice(device)); },
      .cheap_allocation = [] { return false; },
      .allocate = allocate,
      .deallocate = give_back<free_after_all_work<cudaFree>>,
      .allocate_host = allocate_host,
      .deallocate_host = give_back<free_after_all_work<cudaFreeHost>>,
      .copy = copy,
      .fill = fill,
      .create_stream = create_stream,
      .destroy_stream = destroy_stream,
      .create_event = create_event,
      .destroy_event = destroy_event,
      .record_event = record_event,
      .wait_event = wait_event,
      .synchronize_event = synchronize_event,
      .create_timed_event = create_timed_event,
      .record_time = record_time,
      .elapsed = elapsed,
      .synchronize = synchronize,
      .begin_capture = begin_capture,
      .end_capture = end_capture,
      .launch_graph = launch_graph,
      .destroy_graph = [](int device, Graph graph) { give_back<free_graph>(device, graph.handle); },
  };
  return api;
}

}  // namespace sinter::kernels
