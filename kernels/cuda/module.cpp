#include "kernels/cuda/module.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <string>

#include "kernels/base/families.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/cudnn_attention.h"
#include "kernels/cuda/device.h"

namespace sinter::kernels {
namespace cuda {
SINTER_DECLARE_FAMILIES;
}

namespace {

std::string runtime_version() {
  return "CUDA runtime " + std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
}

/// Own kernels, and libraries beside them.
struct Libraries {
  std::string description = runtime_version();
  Table table;

  Libraries(const Table& own, cuda::Serves serves) : table(own) {
    if (cuda_device_api().device_count() == 0) return;  // nothing to load libraries of half a gigabyte for
    if (add("cuBLASLt", cuda::why_no_cublaslt(), cuda::cublaslt_version)) {
      static const KernelEntry gemm = cuda::with_cublaslt(row(KernelId::gemm));   // every module's
      row(KernelId::gemm) = gemm;
    }
    if (add("cuDNN", cuda::dnn::why_no_cudnn(), cuda::dnn::version))
      for (const KernelId id : {KernelId::attention, KernelId::attention_backward})
        row(id) = cuda::with_cudnn(row(id), serves);
  }

 private:
  /// Says in the description that the library is there, or why it is not.
  bool add(const char* name, const std::string& why_not, std::string (*version)()) {
    description += why_not.empty() ? ", " + version() : std::string(", without ") + name + ": " + why_not;
    return why_not.empty();
  }
  KernelEntry& row(KernelId id) {
    return *std::find_if(table.rows, table.rows + table.count, [&](const KernelEntry& each) { return each.id == id; });
  }
};

const Table& own_table() {
  using namespace cuda;
  static const Family* const families[] = {SINTER_ALL_FAMILIES};
  static const Table table(families);
  return table;
}

}  // namespace

const BackendModule& own_cuda_module() {
  static const std::string description = runtime_version();
  static const BackendModule module = {kBackendAbi,       "cuda",           description.c_str(), own_table().rows,
                                       own_table().count, &cuda_device_api()};
  return module;
}

const BackendModule& cuda_module() {
  static const Libraries all(own_table(), cuda::Serves::selection);
  static const BackendModule module = {kBackendAbi,     "cuda",           all.description.c_str(), all.table.rows,
                                       all.table.count, &cuda_device_api()};
  return module;
}

const BackendModule& cuda_referee_module() {
  static const Libraries all(own_table(), cuda::Serves::referee);
  static const BackendModule module = {kBackendAbi,     "cuda",           all.description.c_str(), all.table.rows,
                                       all.table.count, &cuda_device_api()};
  return module;
}

}  // namespace sinter::kernels
