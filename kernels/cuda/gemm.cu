#include "kernels/gemm.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family gemm_family;
const Family gemm_family = {};

}  // namespace sinter::kernels::cuda
