#include "kernels/base/families.h"
#include "kernels/base/host_device.h"

namespace sinter::kernels {
namespace ref {
SINTER_DECLARE_FAMILIES;
}

const BackendModule& ref_module() {
  using namespace ref;
  static const Family* const families[] = {SINTER_ALL_FAMILIES};
  static const Table table(families);
  static const BackendModule module = {kBackendAbi, "ref", "naive loops, fp64 accumulation", table.rows, table.count,
                                       &host_device_api()};
  return module;
}

}  // namespace sinter::kernels
