// What DeviceCase::check_stops shows on the emulated device, once on a GPU: there it ends the process's context, so
// that a process of its own must do it.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "kernels/cross_entropy.h"
#include "kernels/cuda/module.h"

namespace sinter::kernels::testing {
namespace {

constexpr int kDeviceError = 3;

void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.what);
  std::exit(1);
}

template <class T>
T* on_gpu(const T& value) {
  void* memory = nullptr;
  must(cuda_module().device->allocate(0, sizeof value, &memory));
  must(cuda_module().device->copy(0, memory, &value, sizeof value, {}));
  return static_cast<T*>(memory);
}

[[noreturn]] void use_a_wrong_label() {
  struct Row {
    float x[2];
  };
  must(run(cuda_module(), CrossEntropy{.rows = 1, .classes = 2, .x = on_gpu(Row{}), .labels = on_gpu(std::int64_t{7}),
                                       .loss = on_gpu(0.0f), .lse = on_gpu(0.0f)}));
  const Status status = cuda_module().device->synchronize(0, {});
  std::fprintf(stderr, "%s\n", status.what);
  std::exit(status.code == StatusCode::device_error ? kDeviceError : 0);
}

TEST(KernelOnAGpu, StopsAtAWrongIndexWithItsSentence) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // the child starts anew, without this process's context
  EXPECT_EXIT(use_a_wrong_label(), ::testing::ExitedWithCode(kDeviceError), "a label lies outside");
}

}  // namespace
}  // namespace sinter::kernels::testing
