// NVIDIA's NCCL, found and loaded when the first group of GPUs is made.
#pragma once

#include <string>
#include <vector>

#include "train/ranks/nccl/nccl_abi.h"

namespace sinter::train {

/// NCCL, or the reason why it cannot be used.
struct NcclLibrary {
  const nccl::Functions* functions = nullptr;   ///< null where it cannot be used; stays loaded for ever
  std::string why_unusable;                     ///< half a sentence: "there is no libnccl.so.2 (...)"
  std::string version;                          ///< "NCCL 2.30.7"
};

/// Where cuBLASLt is looked for too: the system's own search (LD_LIBRARY_PATH, ld.so.conf), then the toolkit's folder,
/// which is CUDA_HOME's, else /usr/local/cuda.
std::vector<std::string> nccl_places();

/// Loads the first of `places` that is there. Anything that is wrong is an answer and not an exception: no such file
/// (in the system's words), a library without one of the functions. Needs neither a GPU nor a driver.
NcclLibrary load_nccl(const std::vector<std::string>& places = nccl_places());

}  // namespace sinter::train
