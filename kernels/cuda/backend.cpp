// What libsinter_cuda.so shows.
#include "kernels/cuda/module.h"

extern "C" __attribute__((visibility("default"))) const sinter::kernels::BackendModule* sinter_backend_module() {
  return &sinter::kernels::cuda_module();
}
