// NcclGroup over NCCL itself, on the GPUs of this machine: one rank, and two where there are two GPUs. The same cases,
// and what goes wrong, over a pretended NCCL: tests/train/ranks/nccl.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/runtime/runtime.h"
#include "tests/train/ranks/nccl_cases.h"
#include "train/ranks/nccl/nccl_library.h"

namespace sinter::train {
namespace {

class NcclOnGpus : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const int ranks = GetParam();
    if (const std::string why = Runtime::instance().why_unusable(Device::cuda()); !why.empty())
      GTEST_SKIP() << "cuda:0 is not usable: " << why;
    const int gpus = Runtime::instance().device_count(DeviceType::cuda);
    if (gpus < ranks) GTEST_SKIP() << ranks << " ranks need a GPU each, and there is one";
    if (library().functions == nullptr) GTEST_SKIP() << "NCCL cannot be used: " << library().why_unusable;
    for (int r = 0; r < ranks; ++r) devices_.push_back(Device::cuda(r));
  }
  static const NcclLibrary& library() {
    static const NcclLibrary loaded = load_nccl();
    return loaded;
  }

  std::vector<Device> devices_;
};

TEST_P(NcclOnGpus, AllCases) {
  testing::run_on_devices(*library().functions, devices_, [](NcclGroup& group) {
    for (const testing::NcclCase& tested : testing::nccl_cases()) {
      SCOPED_TRACE(tested.name);
      tested.run(group);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Devices, NcclOnGpus, ::testing::Values(1, 2),
                         [](const auto& ranks) { return "cuda_" + std::to_string(ranks.param) + "_ranks"; });

}  // namespace
}  // namespace sinter::train
