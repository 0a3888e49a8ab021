// What a kernel's or a device's Status means to core.
#pragma once

#include "core/error.h"
#include "kernels/base/status.h"

namespace sinter {

inline ErrorCode error_code(kernels::StatusCode code) {
  switch (code) {
    case kernels::StatusCode::unsupported: return ErrorCode::unsupported;
    case kernels::StatusCode::out_of_memory: return ErrorCode::out_of_memory;
    case kernels::StatusCode::device_error: return ErrorCode::device;
    default: return ErrorCode::usage;
  }
}

}  // namespace sinter
