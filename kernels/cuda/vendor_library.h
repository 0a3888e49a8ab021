// What the libraries share that are loaded at run time: NVIDIA's, where they are installed.
#pragma once

#include <dlfcn.h>

#include <string>

namespace sinter::kernels::cuda {

/// The system's own search first (LD_LIBRARY_PATH, ld.so.conf), then the toolkit's folder: CUDA_HOME, else
/// /usr/local/cuda. Null where neither has the library; `why_not` then says "there is no libcublasLt.so.13 (...)".
void* open_library(const std::string& name, std::string* why_not);

/// The address of a function of an open library; `why_not` where it has none of this name.
template <class Function>
void find_function(void* library, const std::string& name, Function*& function, std::string* why_not) {
  void* const address = dlsym(library, name.c_str());
  if (address == nullptr) *why_not = "the library has no function " + name;
  function = reinterpret_cast<Function*>(address);
}

/// The calling thread's device; 0 where there is none.
int current_device();

}  // namespace sinter::kernels::cuda
