#include "kernels/cuda/module.h"

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/base/families.h"
#include "kernels/cuda/cublaslt.h"
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

  explicit Libraries(const Table& own) : table(own) {
    if (cuda_device_api().device_count() == 0) return;  // nothing to load a library of half a gigabyte for
    if (*cuda::why_no_cublaslt() != '\0') {
      description += std::string(", without cuBLASLt: ") + cuda::why_no_cublaslt();
      return;
    }
    description += ", " + cuda::cublaslt_version();
    for (std::size_t i = 0; i < table.count; ++i)
      if (table.rows[i].id == KernelId::gemm) table.rows[i] = cuda::with_cublaslt(table.rows[i]);
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
  static const Libraries all(own_table());
  static const BackendModule module = {kBackendAbi,     "cuda",           all.description.c_str(), all.table.rows,
                                       all.table.count, &cuda_device_api()};
  return module;
}

}  // namespace sinter::kernels
