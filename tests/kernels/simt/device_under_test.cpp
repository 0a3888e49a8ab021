#include "tests/kernels/cuda/device_under_test.h"

#include "kernels/simt/device.h"
#include "kernels/simt/module.h"

namespace sinter::kernels::testing {

const BackendModule& device_under_test() { return simt_module(); }

void for_each_schedule(const std::function<void(const std::string& schedule)>& fn) {
  struct Schedule {
    const char* name;
    simt::Order order;
    std::uint64_t seed;
  };
  simt::Options& options = simt::Device::get(0).options;
  const simt::Options before = options;
  for (const Schedule& schedule : {Schedule{"in order", simt::Order::in_order, 1}, {"reverse", simt::Order::reverse, 1},
                                   {"random 7", simt::Order::random, 7}}) {
    options.order = schedule.order;
    options.seed = schedule.seed;
    fn(schedule.name);
  }
  options = before;
}

}  // namespace sinter::kernels::testing
