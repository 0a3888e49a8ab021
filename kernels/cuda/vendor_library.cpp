#include "kernels/cuda/vendor_library.h"

#include <cuda_runtime_api.h>

#include <cstdlib>

namespace sinter::kernels::cuda {

void* open_library(const std::string& name, std::string* why_not) {
  std::string toolkit = "/usr/local/cuda";
  if (const char* home = std::getenv("CUDA_HOME"); home != nullptr && home[0] != '\0') toolkit = home;
  for (const std::string& path : {name, toolkit + "/lib64/" + name})
    if (void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  const char* const said = dlerror();
  *why_not = "there is no " + name + " (" + (said == nullptr ? "" : said) + ")";
  return nullptr;
}

int current_device() {
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) static_cast<void>(cudaGetLastError());
  return device;
}

}  // namespace sinter::kernels::cuda
