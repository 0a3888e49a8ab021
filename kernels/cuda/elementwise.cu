#include "kernels/elementwise.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family elementwise_family;
const Family elementwise_family = {};

}  // namespace sinter::kernels::cuda
