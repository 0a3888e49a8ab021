#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family reduce_family;
const Family reduce_family = {};
}  // namespace sinter::kernels::cpu
