#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family embedding_family;
const Family embedding_family = {};
}  // namespace sinter::kernels::cpu
