#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family adamw_family;
const Family adamw_family = {};
}  // namespace sinter::kernels::ref
