#include "kernels/embedding.h"

#include "kernels/base/families.h"

namespace sinter::kernels::cuda {

extern const Family embedding_family;
const Family embedding_family = {};

}  // namespace sinter::kernels::cuda
