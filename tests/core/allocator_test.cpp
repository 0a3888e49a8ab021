#include "core/runtime/allocator.h"

#include <gtest/gtest.h>

#include <cstring>

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
