// A backend without a usable device.
#include "kernels/base/kernel.h"

extern "C" __attribute__((visibility("default"))) const sinter::kernels::BackendModule* sinter_backend_module();
extern "C" const sinter::kernels::BackendModule* sinter_backend_module() {
  using namespace sinter::kernels;
  static const DeviceApi api = {
      .device_count = [] { return 0; },
      .why_unavailable = [] { return "somebody took the device away"; },
  };
  static const BackendModule module = {.abi = kBackendAbi, .name = "cuda", .device = &api};
  return &module;
}
