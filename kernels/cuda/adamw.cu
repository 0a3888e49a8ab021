#include "kernels/adamw.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family adamw_family;
const Family adamw_family = {};

}  // namespace sinter::kernels::cuda
