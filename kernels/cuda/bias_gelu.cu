#include "kernels/bias_gelu.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family bias_gelu_family;
const Family bias_gelu_family = {};

}  // namespace sinter::kernels::cuda
