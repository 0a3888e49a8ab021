#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family elementwise_family;
const Family elementwise_family = {};
}  // namespace sinter::kernels::cpu
