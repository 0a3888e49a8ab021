#include "kernels/base/families.h"

namespace sinter::kernels::cpu {
extern const Family bias_gelu_family;
const Family bias_gelu_family = {};
}  // namespace sinter::kernels::cpu
