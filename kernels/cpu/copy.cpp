#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family copy_family;
const Family copy_family = {};
}  // namespace sinter::kernels::cpu
