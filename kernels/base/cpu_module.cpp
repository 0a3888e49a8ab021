// Picks the CPU backend's instruction set at run time.
#include "kernels/base/host_device.h"
#include "kernels/base/kernel.h"

extern "C" const sinter::kernels::KernelEntry* sinter_cpu_kernels_avx2(std::size_t* count);
extern "C" const sinter::kernels::KernelEntry* sinter_cpu_kernels_avx512(std::size_t* count);

namespace sinter::kernels {

const char* name(CpuIsa isa) { return isa == CpuIsa::avx512 ? "avx512" : "avx2"; }

bool cpu_has(CpuIsa isa) {
  // The levels of the x86-64 psABI: v3 has AVX2, FMA, BMI2, F16C; v4 adds AVX-512 F, BW, CD, DQ, VL.
  return isa == CpuIsa::avx512 ? __builtin_cpu_supports("x86-64-v4") != 0 : __builtin_cpu_supports("x86-64-v3") != 0;
}

const BackendModule* cpu_module(CpuIsa isa) {
  if (!cpu_has(isa)) return nullptr;
  const auto make = [](CpuIsa which) {
    BackendModule module = {kBackendAbi, "cpu", name(which), nullptr, 0, &host_device_api()};
    module.entries = which == CpuIsa::avx512 ? sinter_cpu_kernels_avx512(&module.entry_count)
                                             : sinter_cpu_kernels_avx2(&module.entry_count);
    return module;
  };
  if (isa == CpuIsa::avx512) {
    static const BackendModule avx512 = make(CpuIsa::avx512);
    return &avx512;
  }
  static const BackendModule avx2 = make(CpuIsa::avx2);
  return &avx2;
}

const BackendModule& cpu_module() {
  static const BackendModule none = {kBackendAbi, "cpu", "this processor lacks AVX2", nullptr, 0, &host_device_api()};
  if (const BackendModule* best = cpu_module(CpuIsa::avx512)) return *best;
  if (const BackendModule* base = cpu_module(CpuIsa::avx2)) return *base;
  return none;
}

}  // namespace sinter::kernels
