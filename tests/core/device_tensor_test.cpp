// Tensors on a device that is not the CPU.
#include <gtest/gtest.h>

#include "core/autograd/mode.h"
#include "core/ops/packing.h"
#include "core/random.h"
#include "core/runtime/runtime.h"
#include "core/tensor.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

namespace sinter {
namespace {

class DeviceTensor : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(there_); !why.empty()) GTEST_SKIP() << why;
  }
  const Device there_ = GetParam(), elsewhere_ = testing::another(there_);
  const Tensor x_ = Tensor::from<float>({1, 2, 3, 4, 5, 6}).reshape({2, 3});
};

SINTER_ON_OTHER_DEVICES(DeviceTensor);

TEST_P(DeviceTensor, GoesThereAndComesBack) {
  const Tensor moved = x_.to(there_);
  EXPECT_EQ(moved.device(), there_);
  EXPECT_EQ(moved.shape(), x_.shape());
  EXPECT_TRUE(moved.to(there_).same(moved));
  EXPECT_EQ(moved.to(Device::cpu()).to_vector<float>(), x_.to_vector<float>());
  EXPECT_EQ(moved.to_vector<float>(), x_.to_vector<float>());
  EXPECT_EQ(moved.narrow(0, 1, 1).narrow(1, 2, 1).item(), 6);
  EXPECT_EQ(moved.str(2), "Tensor[2, 3] f32 " + there_.str() + ": 1, 2, ...");
  const Tensor flags = Tensor::from<std::uint8_t>({1, 0}).to(Dtype::boolean).to(there_);
  EXPECT_EQ(flags.to_vector<bool>(), (std::vector<bool>{true, false}));
}

TEST_P(DeviceTensor, UploadsTogether) {
  const Tensor large = Tensor::arange(100'000);   // more than goes over in one transfer
  const Tensors moved = upload(Tensors{x_.transpose(0, 1), Tensor::from<std::int64_t>({-1, 1}), Tensor::empty({0, 4}),
                                       Tensor::from<float>({8}).to(there_)}, there_);
  ASSERT_EQ(moved.size(), 4u);
  for (const Tensor& tensor : moved) EXPECT_EQ(tensor.device(), there_);
  EXPECT_EQ(moved[0].shape(), Shape({3, 2}));
  EXPECT_EQ(moved[0].to_vector<float>(), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  EXPECT_EQ(moved[1].to_vector<std::int64_t>(), (std::vector<std::int64_t>{-1, 1}));
  EXPECT_EQ(moved[2].shape(), Shape({0, 4}));
  EXPECT_EQ(moved[3].item(), 8);
  EXPECT_EQ(upload({&large, 1}, there_)[0].to_vector<std::int64_t>(), large.to_vector<std::int64_t>());
  EXPECT_EQ(upload(moved, Device::cpu())[0].to_vector<float>(), moved[0].to_vector<float>());
  Tensor written = moved[0];
  written.add_(written);
  EXPECT_EQ(written.to_vector<float>(), (std::vector<float>{2, 8, 4, 10, 6, 12}));
  Tensor leaf = x_.clone().set_requires_grad();
  EXPECT_FALSE(upload({&leaf, 1}, there_)[0].requires_grad());
}

TEST_P(DeviceTensor, StridedSourcesMoveInOrder) {
  const Tensor moved = x_.to(there_);
  const std::vector<float> columns = {1, 4, 2, 5, 3, 6};
  EXPECT_EQ(x_.transpose(0, 1).to(there_).to_vector<float>(), columns);
  EXPECT_EQ(moved.transpose(0, 1).to_vector<float>(), columns);
  EXPECT_EQ(moved.narrow(1, 1, 2).to(elsewhere_).to_vector<float>(), (std::vector<float>{2, 3, 5, 6}));
}

TEST_P(DeviceTensor, CopiesCastAndBroadcastAcrossDevices) {
  Tensor target = Tensor::zeros({2, 3}, {Dtype::f64, there_});
  target.copy_(Tensor::from<float>({7, 8, 9}));
  EXPECT_EQ(target.to_vector<double>(), (std::vector<double>{7, 8, 9, 7, 8, 9}));
  Tensor columns = target.transpose(0, 1);
  columns.copy_(Tensor::from<float>({1, 2, 3, 4, 5, 6}).reshape({3, 2}));
  EXPECT_EQ(target.to_vector<double>(), (std::vector<double>{1, 3, 5, 2, 4, 6}));
  Tensor back = Tensor::zeros({2, 3});
  const std::uint64_t version = back.storage()->version();
  back.copy_(target);
  EXPECT_EQ(back.to_vector<float>(), (std::vector<float>{1, 3, 5, 2, 4, 6}));
  EXPECT_GT(back.storage()->version(), version);
  testing::expect_usage_error([&] { back.copy_(Tensor::zeros({4}, {Dtype::f32, there_})); }, "copy_");
}

TEST_P(DeviceTensor, AGradientComesBackToTheLeaf) {
  Tensor leaf = x_.clone();
  leaf.set_requires_grad();
  leaf.to(there_).backward(Tensor::full({2, 3}, 2, {Dtype::f32, there_}));
  EXPECT_EQ(leaf.grad().device(), Device::cpu());
  EXPECT_EQ(leaf.grad().to_vector<float>(), std::vector<float>(6, 2));
}

TEST_P(DeviceTensor, RandomValuesAreThoseOfTheCpu) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f16}) {
    Tensor here = Tensor::empty({37}, {dtype}), there = Tensor::empty({37}, {dtype, there_});
    normal_(here, 1, 2, 5, 6);
    normal_(there, 1, 2, 5, 6);
    EXPECT_EQ(there.to(Device::cpu()).to(Dtype::f64).to_vector<double>(), here.to(Dtype::f64).to_vector<double>());
  }
}

TEST_P(DeviceTensor, MemoryIsCountedAndGivenBack) {
  CachingAllocator& allocator = Runtime::instance().allocator(there_);
  const std::size_t before = allocator.stats().in_use;
  {
    const Tensor x = Tensor::empty({1000}, {Dtype::f32, there_});
    // The emulated device has no cache: each tensor has its own ends.
    const std::size_t rounded = there_.type() == DeviceType::simt ? 4000 : 4096;
    EXPECT_EQ(allocator.stats().in_use, before + rounded);
  }
  EXPECT_EQ(allocator.stats().in_use, before);
}

TEST_P(DeviceTensor, APackingIsMovedOnce) {
  const std::shared_ptr<const Packing> packing = Packing::packed({2, 0, 3});
  EXPECT_EQ(&packing->on(Device::cpu()), packing.get());
  const Packing& moved = packing->on(there_);
  EXPECT_EQ(&packing->on(there_), &moved);
  EXPECT_EQ(&packing->on(elsewhere_) == &moved, elsewhere_ == there_);
  EXPECT_EQ(moved.tokens, 5);
  EXPECT_EQ(moved.max_length, 3);
  EXPECT_EQ(moved.offsets.to_vector<std::int32_t>(), packing->offsets.to_vector<std::int32_t>());
  EXPECT_EQ(moved.position.device(), there_);
}

TEST_P(DeviceTensor, StepCountersAreReadThere) {
  std::shared_ptr<const StepCounters> kept;
  {
    const StepScope scope(3, 4000000000u, 17);
    kept = StepScope::current("test").counters;
  }
  EXPECT_EQ(kept->on(Device::cpu())[0], 4000000000u);
  EXPECT_EQ(kept->on(Device::cpu())[1], 17u);
  const std::uint32_t* there = kept->on(there_);
  EXPECT_EQ(kept->on(there_), there);
  std::uint32_t read[2];
  Runtime::instance().copy(Device::cpu(), read, there_, there, sizeof read);
  EXPECT_EQ(read[0], 4000000000u);
  EXPECT_EQ(read[1], 17u);
}

}  // namespace
}  // namespace sinter
