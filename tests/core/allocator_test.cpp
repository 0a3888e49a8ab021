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

constexpr std::size_t kMiB = 1 << 20;

TEST_F(AllocatorTest, ServesTheNextTensorFromTheSameSegment) {
  if (!kCaches) GTEST_SKIP() << "under the address sanitizer nothing is cached";
  for (const std::size_t size : {std::size_t{4096}, 3 * kMiB}) {
    const std::size_t made = allocator_.stats().device_allocations;
    void* first = allocator_.allocate(size);
    const std::size_t segment = allocator_.stats().in_use + allocator_.stats().cached;
    allocator_.deallocate(first);
    EXPECT_EQ(allocator_.stats().cached, segment);
    EXPECT_EQ(allocator_.allocate(size / 2), first);
    EXPECT_EQ(allocator_.stats().in_use, size / 2);
    EXPECT_EQ(allocator_.stats().cached, segment - size / 2);
    EXPECT_EQ(allocator_.stats().device_allocations, made + 1);
    allocator_.deallocate(first);
    allocator_.release_cached();
    EXPECT_EQ(allocator_.stats().cached, 0u);
  }
}

TEST_F(AllocatorTest, FreeNeighboursBecomeOnePiece) {
  if (!kCaches) GTEST_SKIP() << "under the address sanitizer nothing is cached";
  // Three thirds of a segment, given back in every order: the whole is there again.
  std::vector<std::vector<int>> orders = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  for (const std::vector<int>& order : orders) {
    void* parts[3];
    for (void*& part : parts) part = allocator_.allocate(8 * kMiB);
    for (const int i : order) allocator_.deallocate(parts[i]);
    void* whole = allocator_.allocate(16 * kMiB);
    EXPECT_EQ(whole, parts[0]);
    allocator_.deallocate(whole);
  }
  EXPECT_EQ(allocator_.stats().device_allocations, 1u);
}

TEST_F(AllocatorTest, SegmentsThatAreUsedInPartStay) {
  if (!kCaches) GTEST_SKIP() << "under the address sanitizer nothing is cached";
  void* first = allocator_.allocate(kMiB);
  void* second = allocator_.allocate(kMiB);
  void* large = allocator_.allocate(40 * kMiB);   // a segment of its own
  allocator_.deallocate(first);
  allocator_.deallocate(large);
  allocator_.release_cached();
  EXPECT_EQ(allocator_.stats().in_use, kMiB);
  EXPECT_EQ(allocator_.stats().cached, 31 * kMiB);
  EXPECT_EQ(allocator_.allocate(kMiB / 2), first);
  allocator_.deallocate(first);
  allocator_.deallocate(second);
  allocator_.release_cached();
  EXPECT_EQ(allocator_.stats().cached, 0u);
}

// Batches of all lengths: what the longest needs serves all of them.
TEST_F(AllocatorTest, LengthsThatVaryShareTheirMemory) {
  if (!kCaches) GTEST_SKIP() << "under the address sanitizer nothing is cached";
  const auto step = [&](std::size_t tokens) {
    std::vector<void*> kept;
    for (int layer = 0; layer < 12; ++layer)
      for (const std::size_t width : {768, 768, 2304, 768, 3072, 3072, 768})
        kept.push_back(allocator_.allocate(tokens * width * 4));
    for (; !kept.empty(); kept.pop_back()) allocator_.deallocate(kept.back());
  };
  step(400);
  const MemoryStats longest = allocator_.stats();
  for (std::size_t tokens = 100; tokens <= 400; ++tokens) step(tokens);
  EXPECT_EQ(allocator_.stats().device_allocations, longest.device_allocations);
  EXPECT_LE(longest.cached, longest.peak_in_use + longest.peak_in_use / 8);
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
    void* most = allocator.allocate(900 << 10);  // fits only without the cached segment, and is too large for it
    EXPECT_EQ(allocator.stats().cached, 0u);
    testing::expect_error([&] { allocator.allocate(512 << 10); }, ErrorCode::out_of_memory,
                          "the device is full: 524288 bytes were asked for, 921600 are in use and 0 cached");
    EXPECT_EQ(allocator.stats().in_use, 921600u);
    allocator.deallocate(most);
  }
  EXPECT_EQ(g_used, 0u);
}

TEST(BrokenDevice, IsNotTakenForAFullOne) {
  kernels::DeviceApi api = *kernels::cpu_module().device;
  api.allocate = [](int, std::size_t, void**) -> kernels::Status {
    return {kernels::StatusCode::device_error, "a kernel has stopped"};
  };
  CachingAllocator allocator(api, 0);
  testing::expect_error([&] { allocator.allocate(64); }, ErrorCode::device, "a kernel has stopped");
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
