// Backends that stand in shared libraries beside the program, so that one program starts on every machine.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "kernels/base/kernel.h"
#include "kernels/gemm_table.h"

namespace sinter {

/// A backend, or the reason why it cannot be used.
struct BackendLibrary {
  const kernels::BackendModule* module = nullptr;   ///< null where it cannot be used; stays loaded for ever
  std::string why_unusable;                         ///< half a sentence: "there is no NVIDIA driver"; "" where it can
  const kernels::GemmTuner* gemm_tuner = nullptr;   ///< null where the library exports none
};

/// Loads library `file` ("libsinter_cuda.so") from the first of `folders` that has it. Anything that is wrong with it
/// is an answer and not an exception: no such file, a file that the system cannot load (its own words), a library that
/// exports no backend or one of another version of sinter, a backend without a usable device (its own words).
BackendLibrary load_backend(const std::string& file, const std::vector<std::filesystem::path>& folders);

/// Where backends stand: beside the program, and beside the library that holds this function.
std::vector<std::filesystem::path> backend_folders();

}  // namespace sinter
