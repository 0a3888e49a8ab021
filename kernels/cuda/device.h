// Memory, streams and events of GPUs, on the CUDA runtime.
#pragma once

#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// Devices have the CUDA runtime's numbers; those behind the first one that the kernels were not compiled for are not
/// counted. A call may change and restores the calling thread's current device.
const DeviceApi& cuda_device_api();

}  // namespace sinter::kernels
