#include "kernels/cuda/module.h"

#include <cuda_runtime_api.h>

#include <string>

#include "kernels/base/families.h"
#include "kernels/cuda/device.h"

namespace sinter::kernels {
namespace cuda {
SINTER_DECLARE_FAMILIES;
}

const BackendModule& cuda_module() {
  using namespace cuda;
  static const Family* const families[] = {SINTER_ALL_FAMILIES};
  static const Table table(families);
  static const std::string description = "CUDA runtime " + std::to_string(CUDART_VERSION / 1000) + "." +
                                         std::to_string(CUDART_VERSION % 1000 / 10);
  static const BackendModule module = {kBackendAbi, "cuda", description.c_str(), table.rows, table.count,
                                       &cuda_device_api()};
  return module;
}

}  // namespace sinter::kernels
