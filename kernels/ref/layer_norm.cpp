#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family layer_norm_family;
const Family layer_norm_family = {};
}  // namespace sinter::kernels::ref
