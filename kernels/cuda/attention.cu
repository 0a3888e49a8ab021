#include "kernels/attention.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family attention_family;
const Family attention_family = {};

}  // namespace sinter::kernels::cuda
