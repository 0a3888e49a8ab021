// The library with the emulated devices and the pretended NCCL, which stands beside the test program.
#pragma once

#include <dlfcn.h>

#include "tests/train/ranks/nccl/pretended_nccl.h"
#include "train/ranks/nccl/nccl_library.h"

namespace sinter::train::testing {

inline const NcclLibrary& pretended_library() {
  static const NcclLibrary library = load_nccl({SINTER_PRETENDED_NCCL});
  return library;
}

inline PretendedNccl& pretended() {
  static PretendedNccl* const all = [] {
    void* const library = dlopen(SINTER_PRETENDED_NCCL, RTLD_NOW | RTLD_LOCAL);   // it is open already
    return reinterpret_cast<PretendedNcclFunction>(dlsym(library, "pretended_nccl"))();
  }();
  return *all;
}

}  // namespace sinter::train::testing
