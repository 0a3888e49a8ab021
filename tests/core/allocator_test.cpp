#include "core/runtime/allocator.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "core/runtime/runtime.h"
#include "core/tensor.h"
#include "tests/core/expect_error.h"

namespace sinter {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr bool kCaches = false;
#else
constexpr bool kCaches = true;
#endif

class AllocatorTest : public ::testing::Test {
 protected:
  CachingAllocator allocator_{*kernels::cpu_module().device, 0};
};

TEST_F(AllocatorTest, CountsWhatIsInUse) {
  void* a = allocator_.allocate(100);
  void* b = allocator_.allocate(1000);
  const std::size_t both = allocator_.stats().in_use;
  EXPECT_GE(both, 1100u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a) % 64, 0u);
  allocator_.deallocate(a);
  EXPECT_LT(allocator_.stats().in_use, both);
  EXPECT_EQ(allocator_.stats().peak_in_use, both);
  allocator_.reset_peak();
  EXPECT_EQ(allocator_.stats().peak_in_use, allocator_.stats().in_use);
  allocator_.deallocate(b);
  EXPECT_EQ(allocator_.stats().in_use, 0u);
  EXPECT_EQ(allocator_.stats().allocations, 2u);
}

TEST_F(AllocatorTest, ServesTheNextTensorOfAboutTheSameSizeFromTheCache) {
  if (!kCaches) GTEST_SKIP() << "under the address sanitizer nothing is cached";
  void* first = allocator_.allocate(4096);
  allocator_.deallocate(first);
  EXPECT_EQ(allocator_.stats().cached, 4096u);
  void* second = allocator_.allocate(3000);
  EXPECT_EQ(second, first);
  EXPECT_EQ(allocator_.stats().device_allocations, 1u);
  EXPECT_EQ(allocator_.stats().cached, 0u);
  EXPECT_EQ(allocator_.stats().in_use, 4096u);
  allocator_.deallocate(second);
  void* small = allocator_.allocate(1024);  // a block of four times the size stays for a tensor that needs it
  EXPECT_NE(small, first);
  allocator_.deallocate(small);
  allocator_.release_cached();
  EXPECT_EQ(allocator_.stats().cached, 0u);
}

TEST_F(AllocatorTest, NothingNeedsNoMemory) {
  EXPECT_EQ(allocator_.allocate(0), nullptr);
  allocator_.deallocate(nullptr);
  EXPECT_EQ(allocator_.stats().allocations, 0u);
}

TEST_F(AllocatorTest, PoisonFillsFreshAndCachedBlocks) {
  allocator_.set_poison(true);
  for (int round = 0; round < 2; ++round) {
    auto* bytes = static_cast<unsigned char*>(allocator_.allocate(300));
    for (int i = 0; i < 300; ++i) ASSERT_EQ(bytes[i], 0xff);
    std::memset(bytes, 0, 300);
    allocator_.deallocate(bytes);
  }
}

TEST_F(AllocatorTest, SaysHowMuchWasAskedFor) {
  testing::expect_error([&] { allocator_.allocate(SIZE_MAX); }, ErrorCode::out_of_memory, "bytes was asked for");
}

std::size_t g_limit = 0, g_used = 0;

/// A device with g_limit bytes.
kernels::DeviceApi small_device() {
  kernels::DeviceApi api = *kernels::cpu_module().device;
  api.allocate = [](int, std::size_t bytes, void** memory) -> kernels::Status {
    if (g_used + bytes > g_limit) return {kernels::StatusCode::out_of_memory, "the device is full"};
    g_used += bytes;
    auto* block = static_cast<std::size_t*>(std::aligned_alloc(64, bytes + 64));
    *block = bytes;
    *memory = block + 8;
    return {};
  };
  api.deallocate = [](int, void* memory) {
    std::size_t* block = static_cast<std::size_t*>(memory) - 8;
    g_used -= *block;
    std::free(block);
  };
  return api;
}

TEST(FullDevice, GetsTheCacheBackBeforeTheAllocatorFails) {
  g_limit = 1 << 20;
  const kernels::DeviceApi api = small_device();
  {
    CachingAllocator allocator(api, 0);
    allocator.deallocate(allocator.allocate(600 << 10));
    void* most = allocator.allocate(900 << 10);  // fits only without the cached block, and is too large for it
    EXPECT_EQ(allocator.stats().cached, 0u);
    testing::expect_error([&] { allocator.allocate(512 << 10); }, ErrorCode::out_of_memory,
                          "the device is full: 524288 bytes were asked for, 921600 are in use");
    EXPECT_EQ(allocator.stats().in_use, 921600u);
    allocator.deallocate(most);
  }
  EXPECT_EQ(g_used, 0u);
}

TEST_F(AllocatorTest, ThreadsShareIt) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([this, t] {
      for (std::size_t i = 1; i < 300; ++i) {
        auto* block = static_cast<unsigned char*>(allocator_.allocate(i * 64));
        std::memset(block, t, i * 64);
        EXPECT_EQ(block[i * 63], t);
        allocator_.deallocate(block);
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(allocator_.stats().in_use, 0u);
  EXPECT_EQ(allocator_.stats().allocations, 4u * 299u);
}

TEST(TensorMemory, IsGivenBackWithTheLastHandle) {
  CachingAllocator& allocator = Runtime::instance().allocator(Device::cpu());
  const std::size_t before = allocator.stats().in_use;
  {
    const Tensor x = Tensor::empty({1000});
    const Tensor view = x.narrow(0, 10, 5);
    EXPECT_GE(allocator.stats().in_use, before + 4000);
  }
  EXPECT_EQ(allocator.stats().in_use, before);
}

}  // namespace
}  // namespace sinter
