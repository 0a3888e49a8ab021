// The graph and the walk: accumulation, freeing, errors, modes, second order, users' functions, checkpoints.
#include <gtest/gtest.h>

#include <cmath>

#include "core/autograd/checkpoint.h"
#include "core/autograd/engine.h"
#include "core/autograd/function.h"
#include "core/autograd/gradcheck.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/gelu.h"
#include "core/ops/layer_norm.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/ops/softmax.h"
#include "core/random.h"
#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using testing::expect_error;
using testing::expect_usage_error;
using Values = std::vector<double>;

Tensor random(const Shape& shape, std::uint32_t site) {
  Tensor x = Tensor::empty(shape, {Dtype::f64});
  normal_(x, 0, 1, 7, site);
  return x.set_requires_grad();
}

Tensor leaf(std::initializer_list<double> values) { return Tensor::from<double>(values).set_requires_grad(); }

TEST(Autograd, ChainOf200000Nodes) {
  Tensor x = leaf({2});
  Tensor y = x;
  for (int i = 0; i < 200000; ++i) y = y + 0.5;
  sum(y).backward();
  EXPECT_EQ(x.grad().item(), 1.0);
}

TEST(Autograd, ALongGraphIsFreedWithoutBackward) {
  Tensor y = leaf({2});
  for (int i = 0; i < 200000; ++i) y = y * 1.0;  // every node keeps its predecessor alive
  y = Tensor();
  SUCCEED();
}

TEST(Autograd, SecondBackwardAccumulatesOnlyAtLeaves) {
  Tensor x = leaf({3});
  const Tensor y = sum(x * x * 2.0);
  y.backward({}, true);
  EXPECT_EQ(x.grad().item(), 12.0);
  y.backward();
  EXPECT_EQ(x.grad().item(), 24.0);
}

TEST(Autograd, ALeafUsedTwiceGetsBothGradients) {
  Tensor x = leaf({3, -1});
  sum(x * x + x).backward();
  EXPECT_EQ(x.grad().to_vector<double>(), (Values{7, -1}));
  x.zero_grad();
  EXPECT_FALSE(x.grad().defined());
}

TEST(Autograd, TwoLeavesNeverShareAGradient) {
  Tensor x = leaf({1}), y = leaf({1});
  const Tensor z = x + y;  // its backward hands the same tensor to both
  sum(z).backward();
  EXPECT_NE(x.grad().data(), y.grad().data());
  sum(x * 4.0).backward();
  EXPECT_EQ(x.grad().item(), 5.0);
  EXPECT_EQ(y.grad().item(), 1.0);
}

TEST(Autograd, ACotangentOfTheCallerStaysAsItIs) {
  Tensor x = leaf({1, 2});
  const Tensor u = Tensor::from<double>({1, 1});
  const Tensor y = x + 0.0;
  y.backward(u, true);
  y.backward(u);
  EXPECT_EQ(u.to_vector<double>(), (Values{1, 1}));
  EXPECT_EQ(x.grad().to_vector<double>(), (Values{2, 2}));
  EXPECT_NE(x.grad().data(), u.data());
}

TEST(Autograd, GradientsOfAllRootsAreAdded) {
  Tensor x = leaf({2});
  const Tensor a = x * 3.0, b = a * a;  // one root is an ancestor of the other
  autograd::backward(Tensors{a, b});
  EXPECT_EQ(x.grad().item(), 3.0 + 2 * 6 * 3);
  expect_usage_error([&] { autograd::backward(Tensors{a, b}, Tensors{a}); }, "got 1 gradients for 2 tensors");
}

TEST(Autograd, NoGradRecordsNothing) {
  Tensor x = leaf({2});
  {
    const NoGradGuard guard;
    EXPECT_FALSE(grad_enabled());
    EXPECT_FALSE((x * x).requires_grad());
    const GradModeGuard again(true);
    EXPECT_TRUE((x * x).requires_grad());
  }
  EXPECT_TRUE(grad_enabled());
  EXPECT_TRUE((x * x).requires_grad());
  EXPECT_FALSE((x.detach() * 2.0).requires_grad());
  EXPECT_FALSE(eq(x, x).requires_grad());
}

TEST(Autograd, DetachCutsTheGraph) {
  Tensor x = leaf({3});
  sum(x * x.detach()).backward();
  EXPECT_EQ(x.grad().item(), 3.0);
}

TEST(Autograd, RootsAreChecked) {
  const Tensor constant = Tensor::from<double>({1});
  expect_usage_error([&] { constant.backward(); }, "does not require grad");
  const Tensor y = leaf({1, 2}) * 2.0;
  expect_usage_error([&] { y.backward(); }, "backward of a tensor [2] needs a gradient of that shape");
  expect_usage_error([&] { y.backward(Tensor::ones({2})); }, "got a gradient f32 [2] for a tensor f64 [2]");
}

TEST(Autograd, AFreedGraphSaysSo) {
  Tensor x = leaf({2});
  const Tensor y = sum(x * x);
  y.backward();
  expect_usage_error([&] { y.backward(); },
                     "backward ran a second time through mul, whose saved tensors were freed; pass "
                                            "retain_graph = true");
}

TEST(Autograd, AChangedSavedTensorNamesOpModuleAndWriter) {
  const Tensor x = leaf({2});
  Tensor factor = Tensor::from<double>({5});
  Tensor y;
  {
    const autograd::ModuleScope scope(std::make_shared<const std::string>("bert.pooler"));
    y = sum(x * factor);
  }
  factor.add_(factor.clone());
  expect_usage_error([&] { y.backward(); },
                     "mul (bert.pooler): tensor 1 [1] saved for backward was at version 0 and is at "
                                            "version 1 now; last written by add_");
  const Tensor unaffected = sum(x + factor);
  factor.fill_(0);
  unaffected.backward();  // add keeps nothing
  EXPECT_EQ(x.grad().item(), 1.0);
}

TEST(Autograd, AnomalyModeNamesTheOpThatGaveNan) {
  const Tensor x = leaf({0});
  const auto run = [&] {
    const autograd::ModuleScope scope(std::make_shared<const std::string>("head"));
    const Tensor y = sum(sqrt(x) * 0.0);  // 0 * inf
    y.backward();
  };
  run();
  EXPECT_TRUE(std::isnan(x.grad().item()));
  const autograd::AnomalyGuard guard;
  expect_usage_error(run, "the backward of sqrt (head)");
}

TEST(Autograd, CreateGraphOfAGradient) {
  const Tensor x = leaf({2});
  const Tensor y = sum(x * x * x);
  const Tensor first = autograd::grad(Tensors{y}, Tensors{x}, {}, {.create_graph = true})[0];
  const Tensor second = autograd::grad(Tensors{sum(first)}, Tensors{x}, {}, {.create_graph = true})[0];
  const Tensor third = autograd::grad(Tensors{sum(second)}, Tensors{x})[0];
  EXPECT_EQ(first.item(), 12.0);
  EXPECT_EQ(second.item(), 12.0);
  EXPECT_EQ(third.item(), 6.0);
  EXPECT_FALSE(x.grad().defined());
}

TEST(Autograd, CreateGraphThroughAFusedOpNeedsTheGuard) {
  const Tensor x = random({2, 3}, 1);
  const Tensor y = sum(gelu(x));
  expect_error([&] { autograd::grad(Tensors{y}, Tensors{x}, {}, {.create_graph = true}); }, ErrorCode::unsupported,
               "bias_gelu cannot be differentiated twice; set autograd::SecondOrderGuard");
}

TEST(Autograd, GradOfUnusedInputs) {
  const Tensor x = leaf({2}), unused = leaf({1});
  const Tensor inner = x * 2.0;
  const Tensor y = sum(inner * inner);
  expect_usage_error([&] { autograd::grad(Tensors{y}, Tensors{unused}, {}, {.retain_graph = true}); },
                     "input 0 [1] does not contribute to the outputs");
  const Tensors found = autograd::grad(Tensors{y}, Tensors{unused, inner, x}, {}, {}, true);
  EXPECT_FALSE(found[0].defined());
  EXPECT_EQ(found[1].item(), 8.0);
  EXPECT_EQ(found[2].item(), 16.0);
  EXPECT_FALSE(x.grad().defined());
  expect_usage_error([&] { autograd::grad(Tensors{y}, Tensors{x.detach()}); }, "input 0 does not require grad");
}

TEST(Autograd, Gradcheck) {
  const Tensor a = random({3, 4}, 1), b = random({4, 5}, 2);
  EXPECT_EQ(autograd::gradcheck([](Inputs in) { return Tensors{softmax(matmul(in[0], in[1]))}; }, {a, b}), "");
  EXPECT_EQ(autograd::gradgradcheck([](Inputs in) { return Tensors{tanh(matmul(in[0], in[1]))}; }, {a, b}), "");
  // A gradient that is wrong on purpose is seen.
  EXPECT_NE(autograd::gradcheck([](Inputs in) { return Tensors{in[0] * in[0].detach()}; }, {a}), "");
  EXPECT_NE(autograd::gradgradcheck([](Inputs in) { return Tensors{in[0] * in[0] * in[0].detach()}; }, {a}), "");
}

// --- Gradients in flat buffers
// ------------------------------------------------------------------------------------------

void pin(const Tensor& parameter, const Tensor& buffer) {
  autograd::Meta& meta = parameter.ensure_meta();
  meta.grad = buffer;
  meta.grad_pinned = meta.grad_stale = true;
}

TEST(FlatGradient, StaysInPlaceAndForgetsOldContent) {
  const Tensor flat = Tensor::full({6}, std::nan(""), {Dtype::f64});
  Tensor x = leaf({1, 2});
  pin(x, flat.narrow(0, 2, 2));
  EXPECT_FALSE(x.grad().defined());
  sum(x * 3.0).backward();
  sum(x * 4.0).backward();
  EXPECT_EQ(flat.narrow(0, 2, 2).to_vector<double>(), (Values{7, 7}));
  EXPECT_TRUE(std::isnan(flat.select(0, 1).item()) && std::isnan(flat.select(0, 4).item()));
  x.zero_grad();
  EXPECT_FALSE(x.grad().defined());
  sum(x * 5.0).backward();
  EXPECT_EQ(x.grad().to_vector<double>(), (Values{5, 5}));
  x.set_grad(Tensor::from<double>({1, 2}));
  EXPECT_EQ(flat.narrow(0, 2, 2).to_vector<double>(), (Values{1, 2}));
  const Tensor y = sum(x * x);
  expect_error([&] { y.backward({}, true, true); }, ErrorCode::unsupported, "lives in a flat buffer");
}

TEST(FlatGradient, AHookSeesEveryContributionOfLinear) {
  const Tensor x = random({3, 4}, 1).detach(), weight = random({2, 4}, 2);
  sum(linear(x, weight)).backward();
  const Values plain = weight.grad().to_vector<double>();
  pin(weight, Tensor::zeros({2, 4}, {Dtype::f64}));
  int calls = 0;
  weight.register_hook([&](const Tensor& gradient) {
    ++calls;
    return gradient * 2.0;
  });
  sum(linear(x, weight)).backward();
  EXPECT_EQ(calls, 1);
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(weight.grad().to_vector<double>()[i], 2 * plain[i]);
}

TEST(FlatGradient, IsUntouchedByGrad) {
  const Tensor x = random({3, 4}, 1).detach(), weight = random({2, 4}, 2);
  const Tensor buffer = Tensor::zeros({2, 4}, {Dtype::f64});
  pin(weight, buffer);
  const Tensor found = autograd::grad(Tensors{sum(linear(x, weight))}, Tensors{weight})[0];
  EXPECT_NE(found.to_vector<double>(), Values(8, 0.0));
  EXPECT_EQ(buffer.to_vector<double>(), Values(8, 0.0));
  EXPECT_FALSE(weight.grad().defined());
}

// --- Functions of users
// -----------------------------------------------------------------------------------------------

struct Cube : autograd::Function<Cube> {
  static constexpr const char* name = "cube";
  static Tensor forward(autograd::Context& ctx, const Tensor& x, double factor) {
    ctx.save_for_backward({x});
    ctx.data = factor;
    return x * x * x * factor;
  }
  static Tensors backward(autograd::Context& ctx, Inputs grad) {
    const Tensor x = ctx.saved(0);
    return {grad[0] * x * x * (3 * std::any_cast<double>(ctx.data))};
  }
};

struct SumAndDifference : autograd::Function<SumAndDifference> {
  static Tensors forward(autograd::Context&, const Tensor& a, const Tensor& b) { return {a + b, a - b}; }
  static Tensors backward(autograd::Context& ctx, Inputs grad) {
    return {ctx.needs_input_grad(0) ? grad[0] + grad[1] : Tensor(),
            ctx.needs_input_grad(1) ? grad[0] - grad[1] : Tensor()};
  }
};

struct WrongCount : autograd::Function<WrongCount> {
  static Tensor forward(autograd::Context&, const Tensor& a, const Tensor& b) { return a + b; }
  static Tensors backward(autograd::Context&, Inputs grad) { return {grad[0]}; }
};

TEST(UserFunction, FirstAndSecondOrder) {
  const auto cube = [](Inputs in) { return Tensors{Cube::apply(in[0], 0.5)}; };
  EXPECT_EQ(autograd::gradcheck(cube, {random({5}, 3)}), "");
  EXPECT_EQ(autograd::gradgradcheck(cube, {random({5}, 3)}), "");
  EXPECT_FALSE(Cube::apply(Tensor::from<double>({2}), 1.0).requires_grad());
}

TEST(UserFunction, SeveralOutputsOfWhichOneIsUsed) {
  EXPECT_EQ(autograd::gradcheck([](Inputs in) { return SumAndDifference::apply(in[0], in[1]); },
                                {random({4}, 4), random({4}, 5)}), "");
  const Tensor a = leaf({1}), b = leaf({2});
  sum(SumAndDifference::apply(a, b)[1]).backward();
  EXPECT_EQ(a.grad().item(), 1.0);
  EXPECT_EQ(b.grad().item(), -1.0);
}

/// Hands its first input through.
struct PassThrough : autograd::Function<PassThrough> {
  static Tensor forward(autograd::Context&, const Tensor& x, const Tensor&) { return x; }
  static Tensors backward(autograd::Context&, Inputs grad) { return {Tensor(), grad[0]}; }
};

TEST(UserFunction, AnInputThatIsReturnedStaysOutsideTheGraph) {
  const Tensor x = Tensor::ones({2}), weight = Tensor::ones({2}).set_requires_grad();
  const Tensor y = PassThrough::apply(x, weight);
  EXPECT_TRUE(y.requires_grad());
  EXPECT_FALSE(x.requires_grad());
  EXPECT_EQ(y.data(), x.data());
}

TEST(UserFunction, AMissingGradientIsAnError) {
  const Tensor a = leaf({1}), b = leaf({2});
  expect_error([&] { sum(WrongCount::apply(a, b)).backward(); }, ErrorCode::internal,
               "function: backward returned 1 gradients for 2 inputs");
}

// --- Checkpoints
// ------------------------------------------------------------------------------------------------------

struct Block {
  Tensor weight = random({8, 8}, 10), bias = random({8}, 11), gamma = random({8}, 12), beta = random({8}, 13);

  Tensor operator()(const Tensor& x) const {
    const Tensor hidden = gelu(linear(x, weight, bias));
    return bias_dropout_residual_layer_norm(hidden, bias, x, gamma, beta, 1e-12, 0.25, 77);
  }
  std::vector<Values> gradients() const {
    std::vector<Values> all;
    for (const Tensor& parameter : {weight, bias, gamma, beta}) all.push_back(parameter.grad().to_vector<double>());
    return all;
  }
};

// Bit for bit where no parameter is used by two checkpoints: their sums are added to its gradient one after the other.
TEST(Checkpoint, EqualsPlainBitForBitWithDropout) {
  const Block plain[2], saved[2];
  const Tensor x = random({5, 8}, 20), y = random({5, 8}, 20);
  {
    const StepScope scope(1, 2, 3);
    sum(dropout(plain[1](plain[0](x)), 0.5, 4)).backward();
  }
  Tensor loss;
  {
    const StepScope scope(1, 2, 3);
    const Tensor middle = autograd::checkpoint([&](Inputs in) { return saved[0](in[0]); }, {y});
    loss = sum(dropout(autograd::checkpoint([&](Inputs in) { return saved[1](in[0]); }, {middle}), 0.5, 4));
  }
  loss.backward();  // the step's scope is gone; the recomputation brings its own
  for (int i = 0; i < 2; ++i) EXPECT_EQ(saved[i].gradients(), plain[i].gradients());
  EXPECT_EQ(x.grad().to_vector<double>(), y.grad().to_vector<double>());
}

TEST(Checkpoint, InsideGradIsAnError) {
  const Tensor x = leaf({2});
  const Tensor y = sum(autograd::checkpoint([](Inputs in) { return in[0] * in[0]; }, {x}));
  expect_error([&] { autograd::grad(Tensors{y}, Tensors{x}); }, ErrorCode::unsupported,
               "checkpoint inside autograd::grad");
}

TEST(Checkpoint, WithoutGradientsIsACall) {
  const NoGradGuard guard;
  EXPECT_FALSE(autograd::checkpoint([](Inputs in) { return in[0] * 2.0; }, {leaf({2})}).requires_grad());
}

}  // namespace
}  // namespace sinter
