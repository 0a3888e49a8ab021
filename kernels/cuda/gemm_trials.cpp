#include "kernels/cuda/gemm_trials.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>

#include "kernels/base/cuda_status.cuh"
#include "kernels/cuda/device.h"

namespace sinter::kernels::cuda::trials {
namespace {

constexpr int kWarmUps = 1, kPlays = 5;

/// A point in a stream whose time is kept.
class TimedEvent {
 public:
  TimedEvent() : status_(status_of(cudaEventCreate(&event_))) {}
  ~TimedEvent() {
    if (event_ != nullptr) static_cast<void>(cudaEventDestroy(event_));
  }
  TimedEvent(const TimedEvent&) = delete;
  TimedEvent& operator=(const TimedEvent&) = delete;

  const Status& status() const { return status_; }
  Status record(Stream stream) { return status_of(cudaEventRecord(event_, static_cast<cudaStream_t>(stream.handle))); }
  Status since(const TimedEvent& begin, double* milliseconds) const {
    float elapsed = 0;
    const Status status = status_of(cudaEventElapsedTime(&elapsed, begin.event_, event_));
    *milliseconds = elapsed;
    return status;
  }

 private:
  cudaEvent_t event_ = nullptr;
  Status status_;
};

/// The launches as one graph: launched one by one, short products would wait for the host.
struct Launches {
  int device;
  Stream stream;   // that is captured; the graph is played in another
  Graph graph;

  explicit Launches(int of_device) : device(of_device) {}
  ~Launches() {
    device_api().destroy_graph(device, graph);
    device_api().destroy_stream(device, stream);
  }
  Launches(const Launches&) = delete;
  Launches& operator=(const Launches&) = delete;

  Status capture(int count, const std::function<Status(int, Stream)>& launch) {
    const DeviceApi& api = device_api();
    if (const Status status = api.create_stream(device, &stream); !status.ok()) return status;
    if (const Status status = api.begin_capture(device, stream); !status.ok()) return status;
    Status status;
    for (int i = 0; i < count && status.ok(); ++i) status = launch(i, stream);
    const Status ended = api.end_capture(device, stream, status.ok() ? &graph : nullptr);
    return status.ok() ? ended : status;
  }
};

}  // namespace

std::string gpu(int device) {
  cudaDeviceProp properties{};
  if (!status_of(cudaGetDeviceProperties(&properties, device)).ok()) return "unknown GPU";
  return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) + "." +
         std::to_string(properties.minor) + ", " + std::to_string(properties.multiProcessorCount) + " multiprocessors";
}

const DeviceApi& device_api() { return cuda_device_api(); }

std::size_t cache_bytes(int device) {
  int bytes = 0;
  const Status status = status_of(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, device));
  return status.ok() && bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
}

bool are_forbidden(int device, Stream stream) {
  cudaStreamCaptureStatus state = cudaStreamCaptureStatusNone;
  const Status status = status_of(cudaStreamIsCapturing(static_cast<cudaStream_t>(stream.handle), &state));
  return !status.ok() || state != cudaStreamCaptureStatusNone || captures_forbid_waiting(device);
}

Status time(int device, Stream stream, int launches, const std::function<Status(int, Stream)>& launch,
            double* milliseconds) {
  // Outside of a capture first: the library may load the kernel at its first launch.
  if (const Status status = launch(0, stream); !status.ok()) return status;
  Launches all(device);
  if (const Status status = all.capture(launches, launch); !status.ok()) return status;
  std::array<TimedEvent, kPlays> begins, ends;
  for (int i = -kWarmUps; i < kPlays; ++i) {
    const auto at = static_cast<std::size_t>(std::max(i, 0));
    if (!begins[at].status().ok()) return begins[at].status();
    if (!ends[at].status().ok()) return ends[at].status();
    if (const Status status = begins[at].record(stream); !status.ok()) return status;
    if (const Status status = device_api().launch_graph(device, all.graph, stream); !status.ok()) return status;
    if (const Status status = ends[at].record(stream); !status.ok()) return status;
  }
  if (const Status status = device_api().synchronize(device, stream); !status.ok()) return status;
  std::array<double, kPlays> times{};
  for (std::size_t i = 0; i < times.size(); ++i)
    if (const Status status = ends[i].since(begins[i], &times[i]); !status.ok()) return status;
  std::sort(times.begin(), times.end());
  *milliseconds = times[kPlays / 2] / launches;
  return {};
}

}  // namespace sinter::kernels::cuda::trials
