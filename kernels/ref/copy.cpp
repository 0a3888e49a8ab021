#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family copy_family;
const Family copy_family = {};
}  // namespace sinter::kernels::ref
