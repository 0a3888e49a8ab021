#include "kernels/gather.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family gather_family;
const Family gather_family = {};

}  // namespace sinter::kernels::cuda
