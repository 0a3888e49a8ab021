// Parameters that products read in 16 bits: the copy follows the parameter, and where the gradient is kept.
#include "core/low_copy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/flat_parameters.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "core/runtime/runtime.h"
#include "optim/clip.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

namespace sinter {
namespace {

using testing::expect_usage_error;

class LowCopies : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(device_); !why.empty()) GTEST_SKIP() << why;
    const NoGradGuard guard;
    for (const auto& [name, shape] :
         {std::pair{"a", Shape{3, 5}}, {"b", Shape{7}}, {"c", Shape{300, 17}}, {"d", Shape{9, 2}}}) {
      Tensor x = Tensor::empty(shape, {Dtype::f32, device_});
      normal_(x, 0, 1, 3, site_id(name));
      parameters_.push_back({name, x.set_requires_grad()});
    }
  }

  Tensor random(const Shape& shape, std::uint32_t site) const {
    Tensor x = Tensor::empty(shape, {Dtype::f32, device_});
    normal_(x, 0, 1, 4, site);
    return x;
  }
  std::uint64_t launches() const { return Runtime::instance().counters(device_).launches; }

  const Device device_ = GetParam();
  ParameterList parameters_;
};

INSTANTIATE_TEST_SUITE_P(Devices, LowCopies, ::testing::Values(Device::cpu(), Device::simt(), Device::cuda()),
                         testing::name_of);

std::vector<double> values(const Tensor& x) { return x.detach().to(Dtype::f64).to_vector<double>(); }

/// A function of the parameter in 16 bits whose gradient there is `gradient`, rounded.
Tensor through_copy(const Tensor& parameter, Dtype low, const Tensor& gradient) {
  return sum(rounded(parameter, low).to(Dtype::f32) * gradient);
}

TEST_P(LowCopies, FollowTheParameterAndCostNoLaunch) {
  for (const Dtype low : {Dtype::f16, Dtype::bf16}) {
    FlatParameters flat = FlatParameters::adopt({parameters_});
    flat.keep_low_copy(low, {"a", "c"}, false);
    const Tensor a = parameters_[0].tensor, b = parameters_[1].tensor;
    const auto expect_rounded = [&](std::uint64_t casts) {
      const std::vector<double> expected = values(a.detach().to(low));
      const std::uint64_t before = launches();
      const Tensor found = rounded(a, low);
      EXPECT_EQ(launches() - before, device_.is_cpu() ? 0 : casts);
      EXPECT_EQ(found.dtype(), low);
      EXPECT_TRUE(found.requires_grad());
      EXPECT_EQ(values(found), expected);
    };
    expect_rounded(0);
    {
      const NoGradGuard guard;
      a.detach().select(0, 1).fill_(0.3);   // by somebody who knows nothing of copies
      Tensor(a).copy_(a + 1.0);
    }
    expect_rounded(1);
    expect_rounded(0);
    {
      const NoGradGuard guard;
      Tensor(a).fill_(0.1);
    }
    flat.refresh_low_copies();
    expect_rounded(0);
    {
      const NoGradGuard guard;
      EXPECT_FALSE(rounded(a, low).requires_grad());
    }
    // Without a copy of that dtype it is a cast.
    EXPECT_EQ(values(rounded(b, low)), values(b.detach().to(low)));
    const Dtype other = low == Dtype::f16 ? Dtype::bf16 : Dtype::f16;
    EXPECT_EQ(values(rounded(a, other)), values(a.detach().to(other)));
  }
}

TEST_P(LowCopies, NewFlatParametersHaveNone) {
  FlatParameters flat = FlatParameters::adopt({parameters_});
  flat.keep_low_copy(Dtype::f16, {"a"}, true);
  const Tensor a = parameters_[0].tensor, gradient = random({3, 5}, 1);
  through_copy(a, Dtype::f16, gradient).backward();
  FlatParameters next = FlatParameters::adopt({parameters_}, &flat);
  EXPECT_EQ(a.meta()->low, nullptr);
  EXPECT_FALSE(next.has_low_copy());
  EXPECT_EQ(values(a.grad()), values(gradient.to(Dtype::f16)));   // it came along
}

TEST_P(LowCopies, GradientsStayInF32UnlessAskedFor) {
  // 16 bits would lose the second.
  const auto accumulated = [&](bool low_gradients) {
    FlatParameters flat = FlatParameters::adopt({parameters_});
    flat.keep_low_copy(Dtype::f16, {"a"}, low_gradients);
    flat.zero_grad();
    for (const double value : {1.0, 0x1p-12})
      through_copy(parameters_[0].tensor, Dtype::f16, Tensor::full({3, 5}, value, {Dtype::f32, device_})).backward();
    flat.settle_gradients();
    const Segment& segment = *flat.find("a");
    EXPECT_EQ(segment.gradient_dtype, low_gradients ? Dtype::f16 : Dtype::f32);
    EXPECT_EQ(flat.gradient(segment).dtype(), segment.gradient_dtype);
    EXPECT_EQ(values(flat.gradient(segment)), values(parameters_[0].tensor.grad()));
    return values(parameters_[0].tensor.grad());
  };
  EXPECT_EQ(accumulated(false), std::vector<double>(15, 1 + 0x1p-12));
  EXPECT_EQ(accumulated(true), std::vector<double>(15, 1));
}

TEST_P(LowCopies, EachWayToTheGradientArrives) {
  const Tensor a = parameters_[0].tensor, c = parameters_[2].tensor;
  const Tensor gradient = random({3, 5}, 1), second = random({3, 5}, 2);
  const Tensor in_low = gradient.to(Dtype::f16).to(Dtype::f32);
  FlatParameters flat = FlatParameters::adopt({parameters_});
  flat.keep_low_copy(Dtype::f16, {"a", "c"}, true);
  const auto settled = [&] {
    flat.settle_gradients();
    EXPECT_EQ(values(flat.gradient(*flat.find("c"))), std::vector<double>(300 * 17, 0));
    return values(flat.gradient(*flat.find("a")));
  };
  // In place: what is pinned in f32 stays as it is.
  flat.zero_grad();
  EXPECT_FALSE(a.grad().defined());
  through_copy(a, Dtype::f16, gradient).backward();
  EXPECT_TRUE(a.meta()->grad_stale);
  EXPECT_EQ(values(a.grad()), values(in_low));
  EXPECT_EQ(settled(), values(in_low));
  EXPECT_EQ(settled(), values(in_low));   // once is enough
  // Through an op that reads the parameter itself, before and after.
  for (const bool first : {true, false}) {
    flat.zero_grad();
    if (first) sum(a * second).backward();
    through_copy(a, Dtype::f16, gradient).backward();
    if (!first) sum(a * second).backward();
    EXPECT_EQ(values(a.grad()), values(in_low + second));
    EXPECT_EQ(settled(), values((in_low + second).to(Dtype::f16)));
    EXPECT_EQ(values(a.grad()), values((in_low + second).to(Dtype::f16)));
  }
  // Written by hand, and taken away.
  a.meta();
  Tensor(a).set_grad(second);
  EXPECT_EQ(settled(), values(second.to(Dtype::f16)));
  Tensor(a).zero_grad();
  EXPECT_EQ(settled(), std::vector<double>(15, 0));
}

TEST_P(LowCopies, HooksAndAnomalyModeSeeTheGradientInF32) {
  const Tensor a = parameters_[0].tensor, gradient = random({3, 5}, 1);
  const Tensor in_low = gradient.to(Dtype::f16).to(Dtype::f32);
  FlatParameters flat = FlatParameters::adopt({parameters_});
  flat.keep_low_copy(Dtype::f16, {"a"}, true);
  std::vector<double> seen;
  const std::size_t hook = a.register_hook([&](const Tensor& x) {
    EXPECT_EQ(x.dtype(), Dtype::f32);
    seen = values(x);
    return x * 2.0;
  });
  flat.zero_grad();
  through_copy(a, Dtype::f16, gradient).backward();
  EXPECT_EQ(seen, values(in_low));
  flat.settle_gradients();
  EXPECT_EQ(values(flat.gradient(*flat.find("a"))), values(in_low * 2.0));   // doubling is exact
  a.remove_hook(hook);
  flat.zero_grad();
  {
    const autograd::AnomalyGuard guard;
    through_copy(a, Dtype::f16, gradient).backward();
    EXPECT_FALSE(a.meta()->grad_stale);
    EXPECT_EQ(values(a.grad()), values(in_low));
  }
  flat.zero_grad();
  const Tensor loss = through_copy(a, Dtype::f16, gradient);
  EXPECT_EQ(values(autograd::grad({&loss, 1}, {&a, 1})[0]), values(in_low));
  EXPECT_FALSE(a.grad().defined());
  std::vector<std::string> ready;
  autograd::set_leaf_ready_hook([&](const Tensor& leaf) { ready.push_back(leaf.same(a) ? "a" : "another"); });
  through_copy(a, Dtype::f16, gradient).backward();
  autograd::set_leaf_ready_hook({});
  EXPECT_EQ(ready, std::vector<std::string>{"a"});
}

TEST_P(LowCopies, FlagsOfOldGradientsComeBack) {
  FlatParameters flat = FlatParameters::adopt({parameters_});
  flat.keep_low_copy(Dtype::f16, {"a", "c"}, true);
  const Tensor a = parameters_[0].tensor, gradient = random({3, 5}, 1);
  flat.zero_grad();
  const std::vector<bool> old = flat.stale_gradients();
  through_copy(a, Dtype::f16, gradient).backward();
  const std::vector<bool> mixed = flat.stale_gradients();
  EXPECT_NE(mixed, old);
  flat.settle_gradients();
  flat.set_stale_gradients(old);
  EXPECT_FALSE(a.grad().defined());
  flat.set_stale_gradients(mixed);
  EXPECT_EQ(values(a.grad()), values(gradient.to(Dtype::f16)));
  EXPECT_FALSE(parameters_[2].tensor.grad().defined());
}

TEST_P(LowCopies, TheNormCountsEachParameterOnce) {
  const Tensor a = parameters_[0].tensor, b = parameters_[1].tensor, c = parameters_[2].tensor;
  const Tensor of_a = random({3, 5}, 1), of_b = random({7}, 2), of_c = random({300, 17}, 3);
  const auto norm = [&](bool low_gradients, double factor) {
    FlatParameters flat = FlatParameters::adopt({parameters_});
    if (low_gradients) flat.keep_low_copy(Dtype::f16, {"a", "c"}, true);
    if (low_gradients)   // what nobody may read
      for (const char* name : {"a", "c"}) flat.view(*flat.find(name), flat.gradients()).fill_(1e9);
    flat.zero_grad();
    (through_copy(a, Dtype::f16, of_a) + sum(b * of_b) + through_copy(c, Dtype::f16, of_c * factor)).backward();
    return optim::clip_grad_norm(flat, 1);
  };
  const optim::GradNorm low = norm(true, 1), wide = norm(false, 1);
  EXPECT_EQ(low.norm, wide.norm);
  EXPECT_EQ(low.coefficient, wide.coefficient);
  EXPECT_FALSE(low.nonfinite);
  EXPECT_TRUE(norm(true, 1e5).nonfinite);   // beyond 65504
}

// Nothing to copy is nothing, and not everything.
TEST_P(LowCopies, OfNoParameterLeaveAllInF32) {
  FlatParameters flat = FlatParameters::adopt({parameters_});
  flat.keep_low_copy(Dtype::f16, {}, true);
  EXPECT_FALSE(flat.has_low_copy());
  EXPECT_FALSE(flat.has_low_gradients());
  flat.zero_grad();
  sum(parameters_[1].tensor * 3.0).backward();
  EXPECT_NEAR(optim::clip_grad_norm(flat, 1).norm, 3 * std::sqrt(7.0), 1e-5);
}

TEST_P(LowCopies, RefuseWhatTheyCannotHold) {
  const auto adopt = [&] { return FlatParameters::adopt({parameters_}); };
  FlatParameters flat = adopt();
  expect_usage_error([&] { flat.keep_low_copy(Dtype::f32, {"a"}, false); }, "a copy in f32; it can be f16 or bf16");
  expect_usage_error([&] { flat.keep_low_copy(Dtype::f16, {"e"}, false); }, "no trained parameter e");
  flat.track_rows("d");
  expect_usage_error([&] { flat.keep_low_copy(Dtype::f16, {"d"}, false); }, "the rows of d are tracked");
  flat.keep_low_copy(Dtype::f16, {"a"}, false);
  expect_usage_error([&] { flat.keep_low_copy(Dtype::f16, {"a"}, false); }, "have a copy in 16 bits already");
  FlatParameters other = adopt();
  other.keep_low_copy(Dtype::bf16, {"d"}, false);
  expect_usage_error([&] { other.track_rows("d"); }, "its rows cannot be tracked");
  Tensor wide = Tensor::ones({2}, {Dtype::f64, device_});
  FlatParameters f64 = FlatParameters::adopt({{{"wide", wide.set_requires_grad()}}});
  expect_usage_error([&] { f64.keep_low_copy(Dtype::f16, {"wide"}, false); }, "are f64, they must be f32");
}

}  // namespace
}  // namespace sinter
