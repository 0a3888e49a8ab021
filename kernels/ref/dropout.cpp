#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family dropout_family;
const Family dropout_family = {};
}  // namespace sinter::kernels::ref
