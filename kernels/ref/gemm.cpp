#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family gemm_family;
const Family gemm_family = {};
}  // namespace sinter::kernels::ref
