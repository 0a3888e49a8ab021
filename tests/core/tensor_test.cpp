#include "core/tensor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd/mode.h"
#include "core/ops/elementwise.h"
#include "core/ops/shape.h"
#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using testing::expect_error;
using testing::expect_usage_error;
using Values = std::vector<double>;

Tensor counting(const Shape& shape) { return Tensor::arange(shape.numel(), {Dtype::f64}).reshape(shape); }

TEST(Tensor, Factories) {
  const Tensor zeros = Tensor::zeros({2, 3});
  EXPECT_EQ(zeros.dtype(), Dtype::f32);
  EXPECT_EQ(zeros.device(), Device::cpu());
  EXPECT_EQ(zeros.shape(), (Shape{2, 3}));
  EXPECT_TRUE(zeros.is_contiguous());
  EXPECT_FALSE(zeros.requires_grad());
  EXPECT_EQ(zeros.to_vector<float>(), std::vector<float>(6, 0.0f));
  EXPECT_EQ(Tensor::ones({2}, {Dtype::i64}).to_vector<std::int64_t>(), (std::vector<std::int64_t>{1, 1}));
  EXPECT_EQ(Tensor::full({}, -2.5).item(), -2.5);
  EXPECT_EQ(Tensor::arange(4).to_vector<std::int64_t>(), (std::vector<std::int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(Tensor::arange(0).numel(), 0);
  EXPECT_EQ(Tensor::from<float>({1, 2}).dtype(), Dtype::f32);
  EXPECT_EQ(Tensor::from(std::vector<std::int32_t>{1, 2, 3, 4}, {2, 2}).shape(), (Shape{2, 2}));
  EXPECT_EQ(Tensor::full({3}, 1, {Dtype::boolean}).to_vector<bool>(), (std::vector<bool>{true, true, true}));
  for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32, Dtype::u8})
    EXPECT_EQ(Tensor::full({3}, 2, {dtype}).select(0, 2).item(), 2) << name(dtype);
}

TEST(Tensor, RefusesWhatIsNoTensor) {
  expect_usage_error([] { Tensor::empty({2, -1}); }, "[2, -1] has a negative size");
  expect_usage_error([] { Tensor::empty({INT64_MAX, 3}); }, "more than 2^63 elements");
  expect_usage_error([] { Tensor::empty({INT64_MAX}); }, "does not fit in 2^63 bytes");
  expect_usage_error([] { Tensor::from(Values{1, 2, 3}, {2, 2}); }, "3 values do not fill a tensor of shape [2, 2]");
  expect_usage_error([] { Tensor().shape(); }, "shape of an undefined tensor");
  expect_usage_error([] { counting({2}).data<float>(); }, "data<f32>() of a f64 tensor");
  expect_usage_error([] { counting({2}).to_vector<float>(); }, "to_vector<f32>() of a f64 tensor");
  expect_usage_error([] { counting({2}).item(); }, "it needs exactly one element");
  expect_error([] { counting({2}).to(Device::cuda(99)); }, ErrorCode::not_found, "cuda:99 is not usable");
  expect_error([] { Tensor::zeros({1, 1, 1, 1, 1, 1}).unsqueeze(0); }, ErrorCode::unsupported, "at most 6 dimensions");
}

TEST(Tensor, CopyingTheHandleSharesTheTensor) {
  Tensor a = counting({3});
  Tensor b = a;
  b.fill_(7);
  EXPECT_TRUE(a.same(b));
  EXPECT_EQ(a.to_vector<double>(), Values(3, 7.0));
  EXPECT_FALSE(a.same(a.detach()));
  EXPECT_EQ(a.detach().data(), a.data());
}

TEST(Tensor, ReshapeIsAViewWhereStridesCanShowIt) {
  const Tensor x = counting({2, 3, 4});
  EXPECT_EQ(x.reshape({6, 4}).data(), x.data());
  EXPECT_EQ(x.reshape({-1, 2}).shape(), (Shape{12, 2}));
  EXPECT_EQ(x.reshape({1, 24, 1}).data(), x.data());
  const Tensor swapped = x.permute({1, 2, 0});  // the last two dimensions of x stay mergeable
  EXPECT_EQ(swapped.reshape({12, 2}).data(), x.data());
  EXPECT_EQ(swapped.reshape({12, 2}).strides(), (Shape{1, 12}));
  EXPECT_NE(swapped.reshape({24}).data(), x.data());
  EXPECT_EQ(counting({2, 2}).transpose(0, 1).reshape({4}).to_vector<double>(), (Values{0, 2, 1, 3}));
  EXPECT_EQ(x.narrow(2, 1, 2).reshape({6, 2}).storage(), x.storage());
  EXPECT_EQ(x.narrow(2, 1, 2).reshape({6, 2}).to_vector<double>(), x.narrow(2, 1, 2).to_vector<double>());
  EXPECT_EQ(counting({1}).expand({4}).reshape({2, 2}).strides(), (Shape{0, 0}));
  EXPECT_EQ(counting({0, 3}).reshape({0}).shape(), (Shape{0}));
  EXPECT_EQ(counting({}).reshape({1, 1}).shape(), (Shape{1, 1}));
  EXPECT_EQ(counting({1, 1}).reshape({}).rank(), 0);
}

TEST(Tensor, ReshapeErrors) {
  const Tensor x = counting({2, 3});
  expect_usage_error([&] { x.reshape({4}); }, "reshape of [2, 3] to [4]: 6 elements do not fit");
  expect_usage_error([&] { x.reshape({-1, 4}); }, "6 elements do not fit");
  expect_usage_error([&] { x.reshape({-2, 3}); }, "sizes must not be negative");
  expect_usage_error([&] { counting({0, 2}).reshape({0, -1}); }, "do not fit");
}

TEST(Tensor, ExpandRepeatsWithoutMemory) {
  const Tensor x = counting({3, 1});
  const Tensor wide = x.expand({2, -1, 4});
  EXPECT_EQ(wide.shape(), (Shape{2, 3, 4}));
  EXPECT_EQ(wide.strides(), (Shape{0, 1, 0}));
  EXPECT_EQ(wide.data(), x.data());
  EXPECT_FALSE(wide.is_contiguous());
  EXPECT_EQ(wide.select(0, 1).select(1, 3).to_vector<double>(), (Values{0, 1, 2}));
  expect_usage_error([&] { x.expand({-1, 3, 4}); }, "-1 stands for a new dimension");
  expect_usage_error([&] { x.expand({2, 4}); }, "expand: ");
  expect_usage_error([&] { wide.expand({3, 4}); }, "cannot be broadcast to [3, 4]");
}

TEST(Tensor, ViewsOfDimensions) {
  const Tensor x = counting({2, 3});
  EXPECT_EQ(x.transpose(0, -1).to_vector<double>(), (Values{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(x.permute({-1, 0}).strides(), (Shape{1, 3}));
  EXPECT_EQ(x.narrow(1, 1, 2).to_vector<double>(), (Values{1, 2, 4, 5}));
  EXPECT_EQ(x.narrow(1, 3, 0).numel(), 0);
  EXPECT_EQ(x.narrow(-1, 1, 2).narrow(1, 1, 1).to_vector<double>(), (Values{2, 5}));
  EXPECT_EQ(x.select(1, -1).to_vector<double>(), (Values{2, 5}));
  EXPECT_EQ(x.squeeze(0).shape(), (Shape{2, 3}));
  EXPECT_EQ(x.unsqueeze(-1).shape(), (Shape{2, 3, 1}));
  EXPECT_EQ(x.unsqueeze(1).squeeze(1).shape(), (Shape{2, 3}));
  EXPECT_EQ(counting({2, 3, 4}).flatten(1).shape(), (Shape{2, 12}));
  EXPECT_EQ(counting({2, 3, 4}).flatten(0, 1).shape(), (Shape{6, 4}));
  EXPECT_EQ(counting({}).permute({}).rank(), 0);
  expect_usage_error([&] { x.permute({0}); }, "every dimension must stand once");
  expect_usage_error([&] { x.narrow(1, -1, 1); }, "leave dimension 1");
  expect_usage_error([&] { x.narrow(0, INT64_MAX, 1); }, "leave dimension 0");
  expect_usage_error([&] { x.select(2, 0); }, "dimension 2 is out of range");
  expect_usage_error([&] { x.select(0, -3); }, "index -3 in dimension 0");
}

TEST(Tensor, ViewsRefuseDimensionsOutOfRange) {
  const Tensor x = counting({2, 1, 3});
  EXPECT_EQ(x.unsqueeze(3).shape(), (Shape{2, 1, 3, 1}));
  EXPECT_EQ(x.unsqueeze(-4).shape(), (Shape{1, 2, 1, 3}));
  expect_usage_error([&] { x.unsqueeze(4); }, "unsqueeze of [2, 1, 3] at 4, which is out of range");
  expect_usage_error([&] { x.unsqueeze(-5); }, "out of range");
  expect_usage_error([&] { x.squeeze(3); }, "dimension 3 is out of range");
  expect_usage_error([&] { x.flatten(2, 1); }, "flatten of [2, 1, 3] from dimension 2 to 1");
  expect_usage_error([&] { x.permute({0, 1, 1}); }, "every dimension must stand once");
  expect_usage_error([&] { x.narrow(2, 0, INT64_MAX); }, "leave dimension 2");
  expect_usage_error([&] { x.reshape({INT64_MAX, 3, -1}); }, "more than 2^63 elements");
  expect_usage_error([&] { split(x, {1, 2}); }, "split");
  expect_usage_error([] { cat({}); }, "cat of no tensors");
}

TEST(Tensor, CopiesAndCasts) {
  const Tensor x = counting({2, 2});
  EXPECT_TRUE(x.contiguous().same(x));
  EXPECT_TRUE(x.to(Dtype::f64).same(x));
  EXPECT_FALSE(x.clone().same(x));
  EXPECT_NE(x.clone().data(), x.data());
  EXPECT_TRUE(x.transpose(0, 1).clone().is_contiguous());
  EXPECT_EQ(Tensor::from<double>({1.75, -1.75}).to(Dtype::i32).to_vector<std::int32_t>(),
            (std::vector<std::int32_t>{1, -1}));
  EXPECT_EQ(Tensor::from<double>({0, 0.5}).to(Dtype::boolean).to_vector<bool>(), (std::vector<bool>{false, true}));
  EXPECT_EQ(Tensor::from<float>({1e30f}).to(Dtype::f16).to(Dtype::f32).item(), static_cast<double>(INFINITY));
}

TEST(Tensor, WritesInPlace) {
  Tensor x = counting({2, 3});
  Tensor column = x.narrow(1, 1, 1);
  column.fill_(9);
  EXPECT_EQ(x.to_vector<double>(), (Values{0, 9, 2, 3, 9, 5}));
  column.add_(Tensor::from<double>({1}));
  column.mul_(2);
  EXPECT_EQ(x.to_vector<double>(), (Values{0, 20, 2, 3, 20, 5}));
  x.transpose(0, 1).copy_(Tensor::from<float>({1, 2}));
  EXPECT_EQ(x.to_vector<double>(), (Values{1, 1, 1, 2, 2, 2}));
  expect_usage_error([&] { x.add_(Tensor::from<float>({1})); }, "add_: dtypes f64 and f32 differ");
  expect_usage_error([&] { x.copy_(counting({4})); }, "copy_: ");
  expect_usage_error([&] { x.add_(counting({2, 2, 3})); }, "cannot be broadcast to [2, 3]");
}

TEST(Tensor, WritesFromItsOwnMemoryReadBeforeTheyWrite) {
  Tensor x = counting({3, 3});
  x.add_(x.transpose(0, 1));
  EXPECT_EQ(x.to_vector<double>(), (Values{0, 4, 8, 4, 8, 12, 8, 12, 16}));
  Tensor shifted = counting({5});
  shifted.narrow(0, 1, 4).copy_(shifted.narrow(0, 0, 4));
  EXPECT_EQ(shifted.to_vector<double>(), (Values{0, 0, 1, 2, 3}));
  Tensor twice = counting({3});
  twice.add_(twice);
  twice.add_(twice.narrow(0, 2, 1));
  EXPECT_EQ(twice.to_vector<double>(), (Values{4, 6, 8}));
}

TEST(Tensor, EveryWriteRaisesTheVersionOfTheSharedStorage) {
  Tensor x = counting({4});
  Tensor view = x.narrow(0, 0, 2);
  const std::uint64_t before = x.storage()->version();
  view.fill_(1);
  x.add_(x.clone());
  x.mul_(2);
  x.copy_(counting({4}));
  EXPECT_EQ(view.storage()->version(), before + 4);
  EXPECT_STREQ(x.storage()->last_writer(), "copy_");
}

TEST(Tensor, RefusesInPlaceWritesInTheGraph) {
  Tensor leaf = counting({2}).set_requires_grad();
  expect_usage_error([&] { leaf.fill_(0); }, "fill_ on a tensor that requires grad; write inside NoGradGuard");
  Tensor computed = leaf * 2.0;
  expect_usage_error([&] { computed.add_(leaf.detach()); }, "add_ on a tensor that requires grad");
  expect_usage_error([&] { computed.set_requires_grad(false); }, "use detach()");
  expect_usage_error([] { Tensor::arange(2).set_requires_grad(); }, "a i64 tensor cannot require grad");
  const NoGradGuard guard;
  leaf.fill_(3);
  EXPECT_EQ(leaf.to_vector<double>(), Values(2, 3.0));
}

TEST(Tensor, Text) {
  EXPECT_EQ(Tensor().str(), "Tensor(undefined)");
  EXPECT_EQ(counting({2, 2}).str(), "Tensor[2, 2] f64 cpu: 0, 1, 2, 3");
  EXPECT_EQ(counting({4}).str(2), "Tensor[4] f64 cpu: 0, 1, ...");
  EXPECT_EQ(Tensor::zeros({0}, {Dtype::i64}).str(), "Tensor[0] i64 cpu");
  EXPECT_EQ(Tensor::full({}, 1, {Dtype::bf16}).str(), "Tensor[] bf16 cpu: 1");
}

TEST(Tensor, SplitGivesViews) {
  const Tensor x = counting({5, 2});
  const Tensors pieces = split(x, 2);
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[2].shape(), (Shape{1, 2}));
  EXPECT_EQ(pieces[1].storage(), x.storage());
  EXPECT_EQ(cat(pieces).to_vector<double>(), x.to_vector<double>());
  EXPECT_EQ(split(x, {1, 4})[1].to_vector<double>(), x.narrow(0, 1, 4).to_vector<double>());
  expect_usage_error([&] { split(x, 0); }, "a piece has at least 1 element");
}

}  // namespace
}  // namespace sinter
