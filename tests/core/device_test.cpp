#include "core/device.h"

#include <gtest/gtest.h>

#include "core/runtime/runtime.h"
#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using testing::expect_error;
using testing::expect_usage_error;

TEST(Device, Parses) {
  EXPECT_EQ(Device::parse("cpu"), Device::cpu());
  EXPECT_EQ(Device::parse("cpu:0"), Device::cpu());
  EXPECT_EQ(Device::parse("cuda"), Device::cuda(0));
  EXPECT_EQ(Device::parse("cuda:3"), Device::cuda(3));
  EXPECT_EQ(Device::parse("simt"), Device::simt(0));
  for (const Device device : {Device::cpu(), Device::cuda(2), Device::simt(1)}) EXPECT_EQ(Device::parse(device.str()),
      device);
  for (const char* text : {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda: 1", "cpu:1", "CPU", "cuda:99999999999"})
    expect_usage_error([&] { Device::parse(text); }, "is not known; use cpu, cuda, cuda:N or simt");
}

TEST(Device, EmulationBehavesAsCuda) {
  EXPECT_TRUE(Device::simt().is_cuda());
  EXPECT_TRUE(Device::cuda().is_cuda());
  EXPECT_FALSE(Device::cpu().is_cuda());
  EXPECT_NE(Device::simt(), Device::cuda());
}

TEST(Runtime, Threads) {
  Runtime& runtime = Runtime::instance();
  const int before = runtime.num_threads();
  EXPECT_GE(before, 1);
  runtime.set_num_threads(3);
  EXPECT_EQ(runtime.num_threads(), 3);
  runtime.set_num_threads(before);
  expect_usage_error([&] { runtime.set_num_threads(0); }, "the number of threads is 0, it must be at least 1");
}

}  // namespace
}  // namespace sinter
