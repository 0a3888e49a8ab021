#include "kernels/base/families.h"

namespace sinter::kernels::ref {
extern const Family attention_family;
const Family attention_family = {};
}  // namespace sinter::kernels::ref
