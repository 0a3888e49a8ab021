// Runs the tests, and after all of them the one that asks whether some case ran every variant.
#include <gtest/gtest.h>

#include "tests/kernels/cuda/device_case.h"

namespace {

class EveryVariantRan : public ::testing::Test {
 public:
  void TestBody() override {
    if (::testing::GTEST_FLAG(filter) != "*") GTEST_SKIP() << "only some of the tests ran";
    for (const std::string& variant : sinter::kernels::testing::variants_that_never_ran())
      ADD_FAILURE() << "no case runs variant " << variant;
  }
};

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::RegisterTest("Last", "EveryVariantRan", nullptr, nullptr, __FILE__, __LINE__,
                          [] { return static_cast<::testing::Test*>(new EveryVariantRan()); });
  return RUN_ALL_TESTS();
}
