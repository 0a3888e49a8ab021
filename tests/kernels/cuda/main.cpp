// Runs the tests, and after all of them the one that asks whether some case ran every variant. Exit code 77, with the
// reason, where the device cannot be used.
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/device_under_test.h"

namespace sinter::kernels::testing {
namespace {

class EveryVariantRan : public ::testing::Test {
 public:
  void TestBody() override {
    if (::testing::GTEST_FLAG(filter) != "*") GTEST_SKIP() << "only some of the tests ran";
    for (const std::string& absent : absent_libraries()) std::printf("skipped: %s\n", absent.c_str());
    for (const std::string& variant : variants_that_never_ran(device_under_test()))
      ADD_FAILURE() << "no case runs variant " << variant;
  }
};

}  // namespace
}  // namespace sinter::kernels::testing

int main(int argc, char** argv) {
  using namespace sinter::kernels::testing;
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::RegisterTest("Last", "EveryVariantRan", nullptr, nullptr, __FILE__, __LINE__,
                          [] { return static_cast<::testing::Test*>(new EveryVariantRan()); });
  if (const auto& api = *device_under_test().device; api.device_count() == 0) {
    std::printf("no device for these tests: %s\n", api.why_unavailable());
    return 77;
  }
  return RUN_ALL_TESTS();
}
