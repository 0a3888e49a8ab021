#include "kernels/base/shared_limits.h"

#include <cuda_runtime_api.h>

#include <map>
#include <mutex>
#include <utility>

#include "kernels/base/cuda_status.cuh"

namespace sinter::kernels {
namespace {

/// What was found so far. What failed is asked again.
struct Limits {
  std::mutex mutex;
  std::map<int, std::size_t> of_device;                            // static and dynamic together
  std::map<std::pair<int, const void*>, std::size_t> of_kernel;    // dynamic alone

  static Limits& instance() {
    static Limits& all = *new Limits;
    return all;
  }
};

/// The mutex is held.
Status find_limit(Limits& limits, int device, std::size_t* bytes) {
  if (const auto known = limits.of_device.find(device); known != limits.of_device.end()) {
    *bytes = known->second;
    return {};
  }
  int found = 0;
  const cudaError_t error = cudaDeviceGetAttribute(&found, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (error != cudaSuccess) return status_of(error);
  *bytes = limits.of_device[device] = static_cast<std::size_t>(found);
  return {};
}

/// Gives the kernel what the device has beside its static arrays. The mutex is held.
Status allow_all(Limits& limits, int device, const void* kernel, std::size_t* bytes) {
  std::size_t most = 0;
  if (const Status status = find_limit(limits, device, &most); !status.ok()) return status;
  cudaFuncAttributes attributes{};
  if (const Status status = status_of(cudaFuncGetAttributes(&attributes, kernel)); !status.ok()) return status;
  most -= attributes.sharedSizeBytes;   // at most 48 KiB, which every device has
  const Status status = status_of(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(most)));
  if (!status.ok()) return status;
  *bytes = limits.of_kernel[{device, kernel}] = most;
  return {};
}

}  // namespace

std::size_t most_shared_bytes() {
  Limits& limits = Limits::instance();
  const std::scoped_lock lock(limits.mutex);
  int device = 0;
  std::size_t bytes = 0;
  if (!status_of(cudaGetDevice(&device)).ok() || !find_limit(limits, device, &bytes).ok()) return 0;
  return bytes;
}

Status allow_dynamic_shared(const void* kernel, std::size_t bytes) {
  Limits& limits = Limits::instance();
  const std::scoped_lock lock(limits.mutex);
  int device = 0;
  std::size_t most = 0;
  if (const Status status = status_of(cudaGetDevice(&device)); !status.ok()) return status;
  if (const auto known = limits.of_kernel.find({device, kernel}); known != limits.of_kernel.end())
    most = known->second;
  else if (const Status status = allow_all(limits, device, kernel, &most); !status.ok())
    return status;
  if (bytes > most) return unsupported("a block of this kernel asks for more shared memory than the device has for it");
  return {};
}

}  // namespace sinter::kernels
