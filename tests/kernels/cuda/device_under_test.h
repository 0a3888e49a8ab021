// The device whose kernels the tests of this folder run: the emulated machine, or a GPU; one file of a program says so.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "kernels/base/kernel.h"

namespace sinter::kernels::testing {

/// The backend with the kernels of kernels/cuda.
const BackendModule& device_under_test();

/// Calls `fn` once for each schedule in which the device can run threads and blocks, with its name; results must not
/// depend on it. A GPU has one, and is asked twice.
void for_each_schedule(const std::function<void(const std::string& schedule)>& fn);

/// "cuBLASLt is not there: there is no libcublasLt.so.13" for each library whose variants the backend's table has where
/// it is installed.
std::vector<std::string> absent_libraries();

}  // namespace sinter::kernels::testing
