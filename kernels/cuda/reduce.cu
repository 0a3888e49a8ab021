#include "kernels/reduce.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family reduce_family;
const Family reduce_family = {};

}  // namespace sinter::kernels::cuda
