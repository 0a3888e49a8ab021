// What libsinter_cuda.so shows.
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/module.h"

extern "C" __attribute__((visibility("default"))) const sinter::kernels::BackendModule* sinter_backend_module() {
  return &sinter::kernels::cuda_module();
}

extern "C" __attribute__((visibility("default"))) const sinter::kernels::GemmTuner* sinter_gemm_tuner() {
  return &sinter::kernels::cuda::cublaslt_tuner();
}
