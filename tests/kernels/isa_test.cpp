#include <cstdio>

#include "tests/kernels/kernel_test.h"

namespace sinter::kernels {
namespace {

TEST(Isa, TheBestInstructionSetOfTheMachineIsUsed) {
  const CpuIsa best = cpu_has(CpuIsa::avx512) ? CpuIsa::avx512 : CpuIsa::avx2;
  EXPECT_STREQ(cpu_module().description, name(best));
  EXPECT_EQ(cpu_module(CpuIsa::avx512) != nullptr, cpu_has(CpuIsa::avx512));
  std::printf("instruction set: %s\n", cpu_module().description);  // tests/qemu_avx2.sh looks for it
}

}  // namespace
}  // namespace sinter::kernels
