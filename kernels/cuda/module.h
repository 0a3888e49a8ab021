// The CUDA backend: the kernels of this folder, compiled by nvcc, on GPUs.
#pragma once

#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// A stream handle is a cudaStream_t. Usable where module.device->device_count() > 0. The description says with which
/// libraries, or why without.
const BackendModule& cuda_module();

/// The same for tests and benchmarks: libraries' variants also run where kernels of this folder are selected, and
/// workspaces have room for them.
const BackendModule& cuda_referee_module();

/// The same with the kernels of this folder alone.
const BackendModule& own_cuda_module();

}  // namespace sinter::kernels
