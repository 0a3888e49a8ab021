#include "tests/kernels/cuda/device_under_test.h"

#include "kernels/cuda/module.h"

namespace sinter::kernels::testing {

const BackendModule& device_under_test() { return cuda_module(); }

void for_each_schedule(const std::function<void(const std::string& schedule)>& fn) {
  fn("once");
  fn("again");
}

}  // namespace sinter::kernels::testing
