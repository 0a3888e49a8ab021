// What a kernel's or a device's Status means to core.
#pragma once

#include "core/device.h"
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

/// Throws what went wrong: "copy: no memory is left (cuda:0)".
inline void require(const kernels::Status& status, const char* what, Device device) {
  if (!status.ok()) fail(error_code(status.code), what, ": ", status.what, " (", device.str(), ")");
}

}  // namespace sinter
