#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family attention_family;
const Family attention_family = {};
}  // namespace sinter::kernels::cpu
