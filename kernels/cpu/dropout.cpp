#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family dropout_family;
const Family dropout_family = {};
}  // namespace sinter::kernels::cpu
