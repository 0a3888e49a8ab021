#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family cross_entropy_family;
const Family cross_entropy_family = {};
}  // namespace sinter::kernels::ref
