// The CPU backend of a program that computes nothing, in place of kernels/base/cpu_module.cpp: the runtime wants a row
// in its table, and no one asks for it.
#include "kernels/base/host_device.h"
#include "kernels/base/kernel.h"

namespace sinter::kernels {

const char* name(CpuIsa) { return "no kernels"; }

bool cpu_has(CpuIsa) { return true; }

const BackendModule* cpu_module(CpuIsa) {
  static const KernelEntry row = {};
  static const BackendModule module = {kBackendAbi, "cpu", "no kernels", &row, 1, &host_device_api()};
  return &module;
}

const BackendModule& cpu_module() { return *cpu_module(CpuIsa::avx2); }

}  // namespace sinter::kernels
