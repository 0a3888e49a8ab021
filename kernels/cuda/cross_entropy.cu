#include "kernels/cross_entropy.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family cross_entropy_family;
const Family cross_entropy_family = {};

}  // namespace sinter::kernels::cuda
