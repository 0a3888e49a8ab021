// The emulated CUDA backend: the kernels of kernels/cuda on the machine of this folder.
#pragma once

#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// Devices are simt::Device::get(index); a stream handle is one of theirs, null is device 0's own queue. Streams of
/// devices with an odd number are lazy unless somebody says otherwise: whoever computes there shows where it forgets to
/// wait.
const BackendModule& simt_module();

}  // namespace sinter::kernels
