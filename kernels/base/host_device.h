// DeviceApi of host memory, shared by the CPU and the reference backend.
#pragma once

#include "kernels/base/kernel.h"

namespace sinter::kernels {

const DeviceApi& host_device_api();

}  // namespace sinter::kernels
