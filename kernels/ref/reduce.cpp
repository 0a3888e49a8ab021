#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family reduce_family;
const Family reduce_family = {};
}  // namespace sinter::kernels::ref
