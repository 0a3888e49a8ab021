// What timing a matrix product needs of a device. CUDA's answers are in gemm_trials.cpp; a test of the choice itself
// links others in their place.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "kernels/base/kernel.h"

namespace sinter::kernels::cuda::trials {

/// "NVIDIA H200, compute capability 9.0, 132 multiprocessors": what the choice of an algorithm depends on.
std::string gpu(int device);

/// Memory, copies and streams of the device.
const DeviceApi& device_api();

/// Bytes of the device's last cache.
std::size_t cache_bytes(int device);

/// True while nothing may be allocated or waited for: the stream, or another of the device, is captured, or the calling
/// thread captures one.
bool are_forbidden(int device, Stream stream);

/// Runs launch(i, stream) for each i in [0, launches) several times over, after all work of `stream`, and gives the
/// median of the device's time for one launch. The host waits. Fails with what a launch or the device answered.
Status time(int device, Stream stream, int launches, const std::function<Status(int, Stream)>& launch,
            double* milliseconds);

}  // namespace sinter::kernels::cuda::trials
