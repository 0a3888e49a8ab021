// A libsinter_cuda.so for machines without a GPU: the kernels run on the emulated device, and matrix products are those
// of the pretended cuBLASLt, which computes at once. A stream that waits for somebody who waits would come too late for
// it, so only device 0 may be used (kernels/simt/module.h).
#include <vector>

#include "kernels/cuda/cublaslt.h"
#include "kernels/simt/module.h"

namespace sinter::kernels {
namespace {

std::vector<KernelEntry> make_rows() {
  const BackendModule& emulated = simt_module();
  std::vector<KernelEntry> rows(emulated.entries, emulated.entries + emulated.entry_count);
  for (KernelEntry& row : rows)
    if (row.id == KernelId::gemm) row = cuda::with_cublaslt(row);
  return rows;
}

/// As on a GPU, core keeps memory: the emulated device would fill 32 MiB of workspace for each product.
DeviceApi make_api() {
  DeviceApi api = *simt_module().device;
  api.cheap_allocation = [] { return false; };
  return api;
}

}  // namespace
}  // namespace sinter::kernels

extern "C" __attribute__((visibility("default"))) const sinter::kernels::BackendModule* sinter_backend_module();
extern "C" const sinter::kernels::BackendModule* sinter_backend_module() {
  using namespace sinter::kernels;
  static const std::vector<KernelEntry> rows = make_rows();
  static const DeviceApi api = make_api();
  static const BackendModule module = {kBackendAbi, "cuda", "emulated, beside a pretended cuBLASLt", rows.data(),
                                       rows.size(), &api};
  return &module;
}

extern "C" __attribute__((visibility("default"))) const sinter::kernels::GemmTuner* sinter_gemm_tuner();
extern "C" const sinter::kernels::GemmTuner* sinter_gemm_tuner() { return &sinter::kernels::cuda::cublaslt_tuner(); }
