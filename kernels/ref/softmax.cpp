#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family softmax_family;
const Family softmax_family = {};
}  // namespace sinter::kernels::ref
