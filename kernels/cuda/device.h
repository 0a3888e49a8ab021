// Memory, streams and events of GPUs, on the CUDA runtime.
#pragma once

#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// Devices have the CUDA runtime's numbers; those behind the first one that the kernels were not compiled for are not
/// counted. A call may change and restores the calling thread's current device.
const DeviceApi& cuda_device_api();

/// True while a stream of the device is captured, or the calling thread captures one of any device: nothing may be
/// allocated then, and the host may not wait.
bool captures_forbid_waiting(int device);

}  // namespace sinter::kernels
