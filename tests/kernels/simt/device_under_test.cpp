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
    bool late_copies;
  };
  simt::Options& options = simt::Device::get(0).options;
  const simt::Options before = options;
  for (const Schedule& schedule : {Schedule{"in order", simt::Order::in_order, 1, true},
                                   {"reverse, copies land at once", simt::Order::reverse, 1, false},
                                   {"random 7", simt::Order::random, 7, true}}) {
    options.order = schedule.order;
    options.seed = schedule.seed;
    options.late_copies = schedule.late_copies;
    fn(schedule.name);
  }
  options = before;
}

std::vector<std::string> absent_libraries() { return {}; }

}  // namespace sinter::kernels::testing
