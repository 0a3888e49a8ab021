// What a call of the CUDA runtime answered, as a Status.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/base/status.h"

namespace sinter::kernels {

/// The runtime also remembers an error for the next cudaGetLastError, which would blame it on the next launch: it is
/// forgotten here. Errors that leave the device unusable come back at every call.
inline Status status_of(cudaError_t error) {
  if (error == cudaSuccess) return {};
  static_cast<void>(cudaGetLastError());
  return {error == cudaErrorMemoryAllocation ? StatusCode::out_of_memory : StatusCode::device_error,
          cudaGetErrorString(error)};
}

}  // namespace sinter::kernels
