// The device on which tests run what a GPU would run.
#pragma once

#include <string>

#include "core/runtime/runtime.h"

namespace sinter::testing {

/// Why tests that need all of simt:0 cannot run: this build has none, or a kernel is missing. "" where they can.
inline std::string why_not_emulated() {
  const Device device = Device::simt();
  if (const std::string why = Runtime::instance().why_unusable(device); !why.empty())
    return device.str() + " is not usable: " + why;
  const kernels::BackendModule& backend = Runtime::instance().backend(device);
  for (int id = 0; id < kernels::kKernelCount; ++id)
    if (const auto kernel = static_cast<kernels::KernelId>(id); kernels::find(backend, kernel) == nullptr)
      return device.str() + " has no kernel " + kernels::name(kernel) + " yet";
  return "";
}

}  // namespace sinter::testing
