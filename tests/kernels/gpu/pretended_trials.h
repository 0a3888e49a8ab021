// Trials of products beside the pretended cuBLASLt, in the place of kernels/cuda/gemm_trials.cpp: its clock counts, on
// the emulated device.
#pragma once

#include <cstddef>

namespace sinter::kernels::testing {

struct Trials {
  bool forbidden = false;          ///< as in a capture
  bool out_of_memory = false;
  std::size_t cache_bytes = 0;
  int timed = 0;                   ///< algorithms, so far
  int launches = 0;                ///< of the last of them
};
Trials& trials();

}  // namespace sinter::kernels::testing
