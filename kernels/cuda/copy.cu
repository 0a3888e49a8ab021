#include "kernels/copy.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family copy_family;
const Family copy_family = {};

}  // namespace sinter::kernels::cuda
