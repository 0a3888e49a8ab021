#include "kernels/dropout.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family dropout_family;
const Family dropout_family = {};

}  // namespace sinter::kernels::cuda
