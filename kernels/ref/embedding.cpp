#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family embedding_family;
const Family embedding_family = {};
}  // namespace sinter::kernels::ref
