#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family adamw_family;
const Family adamw_family = {};
}  // namespace sinter::kernels::cpu
