#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family softmax_family;
const Family softmax_family = {};
}  // namespace sinter::kernels::cpu
