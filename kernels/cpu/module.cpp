// The table of one instruction set. This folder is compiled once for each (SINTER_CPU_ISA = avx2, avx512); every symbol
// but the function below is made local to that copy (see kernels/CMakeLists.txt), so that no code built for one
// instruction set can be linked into the other.
#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
SINTER_DECLARE_FAMILIES;
}

#define SINTER_JOIN_(a, b) a##b
#define SINTER_JOIN(a, b) SINTER_JOIN_(a, b)

extern "C" const sinter::kernels::KernelEntry* SINTER_JOIN(sinter_cpu_kernels_, SINTER_CPU_ISA)(std::size_t* count);
extern "C" const sinter::kernels::KernelEntry* SINTER_JOIN(sinter_cpu_kernels_, SINTER_CPU_ISA)(std::size_t* count) {
  using namespace sinter::kernels;
  using namespace sinter::kernels::cpu;
  static const Family* const families[] = {SINTER_ALL_FAMILIES};
  static const Table table(families);
  *count = table.count;
  return table.rows;
}
