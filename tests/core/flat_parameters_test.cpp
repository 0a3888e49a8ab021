// Parameters in flat buffers: layout, tied weights, gradients that stay in place, state that follows its parameter.
#include "core/flat_parameters.h"

#include <gtest/gtest.h>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "kernels/adamw.h"
#include "optim/adamw.h"
#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using kernels::kFlatBlock;
using testing::expect_error;
using testing::expect_usage_error;

Parameter parameter(const std::string& name, const Shape& shape, Dtype dtype = Dtype::f32) {
  Tensor x = Tensor::empty(shape, {dtype});
  normal_(x, 0, 1, 3, site_id(name));
  return {name, x.set_requires_grad()};
}

std::vector<double> values(const Tensor& x) { return x.detach().to(Dtype::f64).to_vector<double>(); }

/// The flat elements that belong to no segment.
std::vector<double> gaps(const FlatParameters& flat, const Tensor& buffer) {
  std::vector<double> all = values(buffer);
  std::vector<bool> used(all.size(), false);
  for (const Segment& segment : flat.segments())
    for (std::int64_t i = 0; i < segment.numel; ++i) {
      const auto at = static_cast<std::size_t>(segment.offset + i);
      EXPECT_FALSE(used[at]) << segment.name << " overlaps at " << at;
      used[at] = true;
    }
  std::vector<double> rest;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (!used[i]) rest.push_back(all[i]);
  return rest;
}

TEST(FlatParameters, LayoutIsReversedAlignedAndKeepsValues) {
  const ParameterList first{parameter("a", {3, 5}), parameter("b", {7}), parameter("c", {100, 33}),
                            parameter("scalar", {})};
  const ParameterList second{parameter("d", {1}), parameter("e", {33})};
  std::vector<std::vector<double>> before;
  for (const auto* list : {&first, &second})
    for (const Parameter& p : *list) before.push_back(values(p.tensor));
  FlatParameters flat = FlatParameters::adopt({first, second});
  std::vector<std::string> order;
  for (const Segment& segment : flat.segments()) {
    order.push_back(segment.name);
    EXPECT_EQ(segment.offset % 16, 0) << segment.name;
    EXPECT_EQ(segment.numel, segment.shape.numel());
    EXPECT_EQ(segment.tensor.data(), flat.view(segment, flat.values()).data());
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(segment.tensor.data()) % 64, 0u);
  }
  EXPECT_EQ(order, (std::vector<std::string>{"scalar", "c", "b", "a", "e", "d"}));
  EXPECT_EQ(flat.group_count(), 2);
  EXPECT_EQ(flat.group_range(0), (std::pair<std::int64_t, std::int64_t>{0, kFlatBlock}));
  EXPECT_EQ(flat.group_range(1), (std::pair<std::int64_t, std::int64_t>{kFlatBlock, 2 * kFlatBlock}));
  EXPECT_EQ(flat.numel(), 2 * kFlatBlock);
  std::size_t i = 0;
  for (const auto* list : {&first, &second})
    for (const Parameter& p : *list) EXPECT_EQ(values(p.tensor), before[i++]) << p.name;
  for (const double gap : gaps(flat, flat.values())) EXPECT_EQ(gap, 0);
  EXPECT_EQ(flat.find("nothing"), nullptr);
}

TEST(FlatParameters, ATensorStaysTheSameObject) {
  Parameter p = parameter("w", {4});
  const Tensor handle = p.tensor;
  FlatParameters flat = FlatParameters::adopt({{p}});
  {
    const NoGradGuard guard;
    p.tensor.fill_(7);
  }
  EXPECT_TRUE(handle.same(p.tensor));
  EXPECT_EQ(flat.values().detach().to_vector<float>()[3], 7);
  EXPECT_TRUE(handle.is_leaf() && handle.requires_grad());
}

TEST(FlatParameters, RefusesWhatItCannotTrain) {
  Parameter frozen = parameter("frozen", {2});
  frozen.tensor.set_requires_grad(false);
  Parameter computed{"computed", parameter("w", {2}).tensor * 2.0};
  expect_usage_error([&] { FlatParameters::adopt({{frozen}}); }, "parameter frozen does not require grad");
  expect_usage_error([&] { FlatParameters::adopt({{computed}}); }, "parameter computed does not require grad");
  expect_usage_error([] { FlatParameters::adopt({}); }, "there are no parameters to train");
  expect_usage_error([] { FlatParameters::adopt({{}, {}}); }, "there are no parameters to train");
  expect_usage_error([] { FlatParameters::adopt({{parameter("a", {2}), parameter("b", {2}, Dtype::f64)}}); },
                     "they must be alike");
  expect_usage_error([] { FlatParameters::adopt({{parameter("a", {2}), parameter("a", {3})}}); },
                     "two parameters are called a");
  expect_usage_error([] { FlatParameters::adopt({{parameter("a", {2})}, {parameter("a", {3})}}); },
                     "two parameters are called a");
  expect_error([] { FlatParameters::adopt({{parameter("h", {2}, Dtype::f16)}}); }, ErrorCode::unsupported,
               "parameter h is f16; flat parameters are f32 or f64");
}

TEST(FlatParameters, TiedWeightsAreStoredOnce) {
  const Parameter word = parameter("embeddings.weight", {10, 3}), other = parameter("other", {3});
  const Parameter again{"decoder.weight", word.tensor}, third{"third.weight", word.tensor};
  const FlatParameters flat = FlatParameters::adopt({{word, other, again, third}});
  ASSERT_EQ(flat.segments().size(), 2u);
  const Segment* segment = flat.find("embeddings.weight");
  ASSERT_NE(segment, nullptr);
  EXPECT_EQ(segment->name, "embeddings.weight");
  EXPECT_EQ(segment->aliases.size(), 2u);
  EXPECT_EQ(flat.find("decoder.weight"), segment);
  EXPECT_EQ(flat.find("third.weight"), segment);
  expect_usage_error([&] { FlatParameters::adopt({{word}, {again}}); },
                     "parameter decoder.weight is tied to embeddings.weight and stands in another group");
}

TEST(FlatParameters, GradientsAccumulateInTheBuffer) {
  const Parameter w = parameter("w", {3}), unused = parameter("unused", {5});
  FlatParameters flat = FlatParameters::adopt({{w, unused}});
  EXPECT_FALSE(w.tensor.grad().defined());
  const auto backward = [&] { sum(w.tensor * w.tensor).backward(); };
  backward();
  const std::vector<double> once = values(w.tensor.grad());
  EXPECT_EQ(w.tensor.grad().storage(), flat.gradients().storage());
  backward();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(values(w.tensor.grad())[i], 2 * once[i]);
  // After zero_grad the old content is still in memory, and must not be seen.
  flat.zero_grad();
  EXPECT_FALSE(w.tensor.grad().defined());
  backward();
  EXPECT_EQ(values(w.tensor.grad()), once);
  // A gradient that did not come is zero after settle_gradients, and only then.
  Tensor poison = flat.view(*flat.find("unused"), flat.gradients());
  poison.fill_(1e30);
  flat.settle_gradients();
  EXPECT_EQ(values(poison), std::vector<double>(5, 0.0));
  EXPECT_EQ(values(w.tensor.grad()), once);
  EXPECT_TRUE(unused.tensor.grad().defined());
}

TEST(FlatParameters, LinearWritesItsProductThere) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
    const Parameter flat_weight = parameter("w", {5, 4}, dtype), plain_weight = parameter("w", {5, 4}, dtype);
    Tensor x = Tensor::empty({7, 4}, {dtype});
    normal_(x, 0, 1, 3, 77);
    FlatParameters flat = FlatParameters::adopt({{flat_weight}});
    flat.gradients().fill_(1e30);
    flat.zero_grad();
    for (const Parameter* p : {&flat_weight, &plain_weight}) {
      sum(linear(x, p->tensor)).backward();
      sum(linear(x, p->tensor) * 2.0).backward();
    }
    EXPECT_EQ(values(flat_weight.tensor.grad()), values(plain_weight.tensor.grad()));
  }
}

TEST(FlatParameters, GapsStayZeroThroughSteps) {
  const ParameterList a{parameter("a", {3, 5}), parameter("b", {33})}, b{parameter("c", {7})};
  optim::AdamW optimizer({{a, 0.1}, {b, 0}}, {.lr = 0.1});
  for (int step = 0; step < 3; ++step) {
    optimizer.zero_grad();
    (sum(exp(a[0].tensor)) + sum(exp(b[0].tensor))).backward();
    optimizer.step();
  }
  FlatParameters& flat = optimizer.parameters();
  for (const Tensor& buffer : {flat.values(), flat.gradients(), flat.state("exp_avg"), flat.state("exp_avg_sq")})
    for (const double gap : gaps(flat, buffer)) EXPECT_EQ(gap, 0);
  EXPECT_NE(values(a[0].tensor)[0], 0);
}

TEST(FlatParameters, AdoptAgainCarriesStateAndGradients) {
  const Parameter a = parameter("a", {3}), b = parameter("b", {4}), later = parameter("later", {2});
  auto old = std::make_unique<FlatParameters>(FlatParameters::adopt({{a, b}}));
  old->state("exp_avg");
  for (const Segment& segment : old->segments())
    old->view(segment, old->state("exp_avg")).fill_(segment.name == "a" ? 1 : 2);
  sum(a.tensor * 3.0).backward();
  const std::vector<double> before = values(b.tensor);
  FlatParameters flat = FlatParameters::adopt({{later, b}, {a}}, old.get());
  old.reset();
  EXPECT_TRUE(flat.has_state("exp_avg"));
  EXPECT_FALSE(flat.has_state("exp_avg_sq"));
  const auto moment = [&](const char* name) { return values(flat.view(*flat.find(name), flat.state("exp_avg"))); };
  EXPECT_EQ(moment("a"), std::vector<double>(3, 1.0));
  EXPECT_EQ(moment("b"), std::vector<double>(4, 2.0));
  EXPECT_EQ(moment("later"), std::vector<double>(2, 0.0));
  EXPECT_EQ(values(b.tensor), before);
  EXPECT_EQ(values(a.tensor.grad()), std::vector<double>(3, 3.0));
  EXPECT_FALSE(b.tensor.grad().defined());
  EXPECT_EQ(a.tensor.grad().storage(), flat.gradients().storage());
}

TEST(FlatParameters, MarkWrittenEndsOlderGraphs) {
  const Parameter w = parameter("w", {3});
  FlatParameters flat = FlatParameters::adopt({{w}});
  const Tensor loss = sum(w.tensor * w.tensor);
  flat.mark_written("adamw");
  expect_usage_error([&] { loss.backward(); }, "last written by adamw");
}

}  // namespace
}  // namespace sinter
