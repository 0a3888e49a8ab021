// A backend that was built for another version of sinter. Whatever lies behind its first field is not looked at.
#include "kernels/base/kernel.h"

extern "C" __attribute__((visibility("default"))) const sinter::kernels::BackendModule* sinter_backend_module();
extern "C" const sinter::kernels::BackendModule* sinter_backend_module() {
  static const sinter::kernels::BackendModule module = {.abi = 999};
  return &module;
}
