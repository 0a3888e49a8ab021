#include "tests/kernels/cuda/device_under_test.h"

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/module.h"

namespace sinter::kernels::testing {

/// Every variant, libraries' included; selected are our own, as on the emulated device.
const BackendModule& device_under_test() {
  static const std::vector<KernelEntry> entries = [] {
    const BackendModule& all = cuda_referee_module();
    std::vector<KernelEntry> rows(all.entries, all.entries + all.entry_count);
    for (KernelEntry& row : rows) row.select = find(own_cuda_module(), row.id)->select;
    return rows;
  }();
  static const BackendModule module = {kBackendAbi,    "cuda",         cuda_referee_module().description,
                                       entries.data(), entries.size(), cuda_referee_module().device};
  return module;
}

void for_each_schedule(const std::function<void(const std::string& schedule)>& fn) {
  fn("once");
  fn("again");
}

std::vector<std::string> absent_libraries() {
  std::vector<std::string> absent;
  const auto add = [&](const std::string& library, const std::string& why_not) {
    if (!why_not.empty()) absent.push_back(library + " is not there: " + why_not);
  };
  add("cuBLASLt", cuda::why_no_cublaslt());
  add("cuDNN", cuda::dnn::why_no_cudnn());
  return absent;
}

}  // namespace sinter::kernels::testing
