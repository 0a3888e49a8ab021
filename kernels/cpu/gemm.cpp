#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family gemm_family;
const Family gemm_family = {};
}  // namespace sinter::kernels::cpu
