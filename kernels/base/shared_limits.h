// How much shared memory blocks may have on GPUs, asked of the CUDA runtime once and kept: the driver's part of
// allow_dynamic_shared in nvcc.cuh. The bodies stand in kernels/cuda/shared_limits.cpp. Any thread may call.
#pragma once

#include <cstddef>

#include "kernels/base/status.h"

namespace sinter::kernels {

/// Bytes that a block may have on the thread's current device, static and dynamic together; 0 where there is none.
std::size_t most_shared_bytes();

/// Lets blocks of `kernel` have `bytes` of dynamic shared memory on the current device. The first call for a kernel and
/// a device allows all that its static arrays leave, so that no later call has anything to set: threads that launch it
/// with different sizes cannot take each other's memory away. Status `unsupported` where `bytes` is more than that.
Status allow_dynamic_shared(const void* kernel, std::size_t bytes);

}  // namespace sinter::kernels
