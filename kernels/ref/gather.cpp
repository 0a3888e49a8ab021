#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family gather_family;
const Family gather_family = {};
}  // namespace sinter::kernels::ref
