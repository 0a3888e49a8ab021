// AdamW, its groups and the clipping before it, against torch's formula written out for one number at a time.
#include "optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/autograd/mode.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "core/runtime/runtime.h"
#include "optim/clip.h"
#include "optim/schedule.h"
#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using testing::expect_error;
using testing::expect_usage_error;

std::vector<double> values(const Tensor& x) { return x.detach().to(Dtype::f64).to_vector<double>(); }

Parameter parameter(const std::string& name, const Shape& shape, Dtype dtype = Dtype::f64) {
  Tensor x = Tensor::empty(shape, {dtype});
  normal_(x, 0, 1, 3, site_id(name));
  return {name, x.set_requires_grad()};
}

/// torch.optim.AdamW for a list of numbers (Loshchilov and Hutter, as in torch/optim/adamw.py).
struct ScalarAdamW {
  std::vector<double> p, m, v;
  double weight_decay, lr_scale;

  void step(const std::vector<double>& gradient, double lr, double t) {
    const double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, rate = lr * lr_scale;
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double g = gradient[i];
      p[i] -= rate * weight_decay * p[i];
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const double corrected_m = m[i] / (1 - std::pow(beta1, t)), corrected_v = v[i] / (1 - std::pow(beta2, t));
      p[i] -= rate * corrected_m / (std::sqrt(corrected_v) + eps);
    }
  }
};

/// A smooth loss whose gradient changes in size and sign from step to step.
Tensor loss_of(const ParameterList& parameters, int step) {
  Tensor loss;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const Tensor& x = parameters[i].tensor;
    const Tensor part = sum(sin(x * (1.0 + static_cast<double>(i))) * (1.0 + 0.5 * (step % 7)) + x * x * 0.1);
    loss = loss.defined() ? loss + part : part;
  }
  return loss;
}

// An update is about ten roundings of numbers no larger than max(|p|, lr), so 500 roundings of 2^-53 in 50 updates; the
// two computations read the same gradient, and differ in the order of its factors: twice that.
constexpr double kTolerance = 50 * 10 * 2 * 0x1p-53;

TEST(AdamW, FiftyStepsEqualTheScalarFormula) {
  const ParameterList decayed{parameter("a.weight", {3, 5}), parameter("b.weight", {33})};
  const ParameterList plain{parameter("a.bias", {7}), parameter("scale", {})};
  const std::vector<optim::ParameterGroup> groups{{decayed, 0.1, 1}, {{}, 0.5, 1}, {plain, 0, 0.25}};
  ParameterList all = decayed;
  all.insert(all.end(), plain.begin(), plain.end());
  std::vector<ScalarAdamW> reference;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::vector<double> p = values(all[i].tensor), zeros(p.size(), 0);
    reference.push_back({p, zeros, zeros, i < 2 ? 0.1 : 0.0, i < 2 ? 1.0 : 0.25});
  }
  optim::AdamW optimizer(groups, {.lr = 0.02});
  EXPECT_EQ(optimizer.parameters().group_count(), 2);  // the empty one is left out
  const optim::Schedule schedule = optim::get_scheduler("linear", 10, 50);
  bool clipped = false, unclipped = false;
  for (int step = 0; step < 50; ++step) {
    optimizer.zero_grad();
    loss_of(all, step).backward();
    const optim::GradNorm norm = optim::clip_grad_norm(optimizer.parameters(), 12.0);
    std::vector<std::vector<double>> gradients;
    double squares = 0;
    for (const Parameter& p : all) {
      gradients.push_back(values(p.tensor.grad()));
      for (const double g : gradients.back()) squares += g * g;
    }
    ASSERT_NEAR(norm.norm, std::sqrt(squares), 60 * 0x1p-53 * norm.norm);  // a sum of 56 squares
    EXPECT_FALSE(norm.nonfinite);
    const double coefficient = std::min(1.0, 12.0 / (norm.norm + 1e-6));
    EXPECT_EQ(norm.coefficient, coefficient);
    (coefficient < 1 ? clipped : unclipped) = true;
    optimizer.set_lr(0.02 * schedule.factor(step));
    optimizer.step(norm.coefficient);
    EXPECT_EQ(optimizer.steps(), step + 1);
    for (std::size_t i = 0; i < all.size(); ++i) {
      for (double& g : gradients[i]) g *= coefficient;
      reference[i].step(gradients[i], optimizer.lr(), step + 1);
      const std::vector<double> p = values(all[i].tensor);
      for (std::size_t j = 0; j < p.size(); ++j)
        ASSERT_NEAR(p[j], reference[i].p[j], kTolerance * std::max(1.0, std::abs(p[j])))
            << all[i].name << " step " << step;
    }
  }
  EXPECT_TRUE(clipped && unclipped);
  std::size_t compared = 0;
  for (const auto& [name, tensor] : optimizer.state_tensors())
    for (std::size_t i = 0; i < all.size(); ++i) {
      const bool first = name == "exp_avg." + all[i].name;
      if (!first && name != "exp_avg_sq." + all[i].name) continue;
      ++compared;
      const std::vector<double> state = values(tensor), &expected = first ? reference[i].m : reference[i].v;
      for (std::size_t j = 0; j < state.size(); ++j)
        EXPECT_NEAR(state[j], expected[j], kTolerance * std::max(1.0, std::abs(expected[j]))) << name;
    }
  EXPECT_EQ(compared, 2 * all.size());
}

TEST(AdamW, TheFirstStepHasTheSizeOfTheRate) {
  const Parameter p = parameter("w", {5});
  const std::vector<double> before = values(p.tensor);
  optim::AdamW optimizer({{{p}, 0}}, {.lr = 0.01});
  sum(p.tensor * 1000.0).backward();
  optimizer.step();
  for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(values(p.tensor)[i], before[i] - 0.01, 1e-12);
}

TEST(AdamW, AParameterWithoutGradientOnlyDecays) {
  const Parameter used = parameter("used", {3}), unused = parameter("unused", {3});
  const std::vector<double> before = values(unused.tensor);
  optim::AdamW optimizer({{{used, unused}, 0.5}}, {.lr = 0.1});
  for (int step = 0; step < 2; ++step) {
    optimizer.zero_grad();
    sum(used.tensor).backward();
    optimizer.step();
  }
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(values(unused.tensor)[i], before[i] * 0.95 * 0.95, 1e-15);
}

TEST(AdamW, ThreadsDoNotChangeABit) {
  Runtime& runtime = Runtime::instance();
  const int before = runtime.num_threads();
  for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
    std::vector<std::vector<double>> results;
    std::vector<double> norms;
    for (const int threads : {1, 2, 4}) {
      runtime.set_num_threads(threads);
      const Parameter large = parameter("large", {301, 1000}, dtype), small = parameter("small", {7}, dtype);
      optim::AdamW optimizer({{{large}, 0.01}, {{small}, 0}}, {.lr = 0.01});
      for (int step = 0; step < 3; ++step) {
        optimizer.zero_grad();
        loss_of({large, small}, step).backward();
        const optim::GradNorm norm = optim::clip_grad_norm(optimizer.parameters(), 1);
        norms.push_back(norm.norm);
        optimizer.step(norm.coefficient);
      }
      results.push_back(values(optimizer.parameters().values()));
    }
    for (std::size_t i = 1; i < 3; ++i) {
      EXPECT_EQ(results[i], results[0]) << name(dtype);
      EXPECT_TRUE(std::equal(norms.begin(), norms.begin() + 3, norms.begin() + static_cast<std::ptrdiff_t>(3 * i)));
    }
  }
  runtime.set_num_threads(before);
}

TEST(AdamW, StateGoesOutAndIn) {
  const auto run = [](bool stop) {
    const Parameter a = parameter("a", {3, 4}), b = parameter("b", {5});
    auto optimizer = std::make_unique<optim::AdamW>(std::vector<optim::ParameterGroup>{{{a, b}, 0.1}},
                                                    optim::AdamWOptions{.lr = 0.1});
    for (int step = 0; step < 6; ++step) {
      if (stop && step == 3) {
        std::map<std::string, Tensor> saved;
        for (const auto& [name, tensor] : optimizer->state_tensors()) saved[name] = tensor.clone();
        optimizer = std::make_unique<optim::AdamW>(std::vector<optim::ParameterGroup>{{{a, b}, 0.1}},
                                                   optim::AdamWOptions{.lr = 0.1});
        optimizer->load_state([&](const std::string& name) { return saved.at(name); }, 3);
      }
      optimizer->zero_grad();
      loss_of({a, b}, step).backward();
      optimizer->step();
    }
    return values(optimizer->parameters().values());
  };
  EXPECT_EQ(run(false), run(true));
}

TEST(AdamW, StateOfAnotherShapeIsRefused) {
  optim::AdamW optimizer({{{parameter("a", {3})}, 0}}, {});
  expect_error([&] { optimizer.load_state([](const std::string&) { return Tensor::zeros({4}, {Dtype::f64}); }, 1); },
               ErrorCode::bad_input, "optimizer state exp_avg.a is f64 [4], the parameter is f64 [3]");
  expect_error([&] { optimizer.load_state([](const std::string&) { return Tensor::zeros({3}); }, 1); },
               ErrorCode::bad_input, "optimizer state exp_avg.a is f32 [3]");
}

TEST(AdamW, RefusesFrozenParameters) {
  Parameter frozen = parameter("frozen", {3});
  frozen.tensor.set_requires_grad(false);
  expect_usage_error([&] { optim::AdamW({{{frozen}, 0}}, {}); }, "parameter frozen does not require grad");
  expect_usage_error([&] { optim::AdamW({}, {}); }, "there are no parameters to train");
}

TEST(ClipGradNorm, LeavesGradientsAlone) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
    const Parameter p = parameter("w", {2}, dtype);
    FlatParameters flat = FlatParameters::adopt({{p}});
    sum(p.tensor * Tensor::from<double>({3, 4}).to(dtype)).backward();
    const optim::GradNorm norm = optim::clip_grad_norm(flat, 1);
    EXPECT_EQ(norm.norm, 5);
    EXPECT_EQ(norm.coefficient, 1 / (5 + 1e-6));
    EXPECT_EQ(values(p.tensor.grad()), (std::vector<double>{3, 4}));
    EXPECT_EQ(optim::clip_grad_norm(flat, 5.1).coefficient, 1);
    EXPECT_LT(optim::clip_grad_norm(flat, 5).coefficient, 1);  // torch adds 1e-6 to the norm
    flat.zero_grad();
    EXPECT_EQ(optim::clip_grad_norm(flat, 1).norm, 0);  // gradients that did not come are zeros
    EXPECT_EQ(optim::clip_grad_norm(flat, 1).coefficient, 1);
  }
}

TEST(ClipGradNorm, UndoesTheScaleOfTheLoss) {
  const Parameter p = parameter("w", {2}, Dtype::f64);
  FlatParameters flat = FlatParameters::adopt({{p}});
  sum(p.tensor * Tensor::from<double>({24, 32})).backward();
  EXPECT_EQ(optim::clip_grad_norm(flat, 1, 8).norm, 5);
  EXPECT_EQ(optim::clip_grad_norm(flat, 1, 8).coefficient, 1 / (5 + 1e-6) / 8);
  EXPECT_EQ(optim::clip_grad_norm(flat, 6, 8).coefficient, 1.0 / 8);
  EXPECT_EQ(optim::clip_grad_norm(flat, HUGE_VAL, 8).coefficient, 1.0 / 8);
}

TEST(ClipGradNorm, FlagsWhatIsNotFinite) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f64})
    for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                             -std::numeric_limits<double>::infinity()})
      for (const std::int64_t place : {std::int64_t{0}, std::int64_t{4999}, std::int64_t{9000}}) {
        const Parameter p = parameter("w", {9001}, dtype);
        FlatParameters flat = FlatParameters::adopt({{p}});
        sum(p.tensor).backward();
        EXPECT_FALSE(optim::clip_grad_norm(flat, 1).nonfinite);
        p.tensor.grad().narrow(0, place, 1).fill_(bad);
        const optim::GradNorm norm = optim::clip_grad_norm(flat, 1);
        EXPECT_TRUE(norm.nonfinite) << name(dtype) << " " << bad << " at " << place;
        EXPECT_FALSE(std::isfinite(norm.norm));
      }
}

TEST(ClipGradNorm, RefusesAThresholdThatIsNotPositive) {
  FlatParameters flat = FlatParameters::adopt({{parameter("w", {2})}});
  expect_usage_error([&] { optim::clip_grad_norm(flat, 0); }, "max_norm is 0, it must be positive");
  expect_usage_error([&] { optim::clip_grad_norm(flat, -1); }, "max_norm is -1");
  expect_usage_error([&] { optim::clip_grad_norm(flat, std::numeric_limits<double>::quiet_NaN()); },
                     "max_norm is nan");
}

TEST(AdamW, RefusesOptionsOutOfRange) {
  const auto make = [](optim::AdamWOptions options, double weight_decay = 0) {
    Tensor weight = Tensor::ones({3});
    optim::AdamW({{.parameters = {{"weight", weight.set_requires_grad()}}, .weight_decay = weight_decay}}, options);
  };
  expect_usage_error([&] { make({.lr = -1}); }, "lr is -1");
  expect_usage_error([&] { make({.beta1 = 1}); }, "beta1 is 1");
  expect_usage_error([&] { make({.beta2 = -0.1}); }, "beta2 is -0.1");
  expect_usage_error([&] { make({.eps = 0}); }, "eps is 0");
  expect_usage_error([&] { make({}, -0.01); }, "weight_decay is -0.01");
}

TEST(AdamW, ANonFiniteGradientNeverReachesTheWeights) {
  Tensor weight = Tensor::ones({3});
  weight.set_requires_grad();
  optim::AdamW optimizer({{.parameters = {{"weight", weight}}}}, {.lr = 0.1});
  weight.set_grad(Tensor::from<float>({1, NAN, 1}));
  const optim::GradNorm norm = optim::clip_grad_norm(optimizer.parameters(), 1.0);
  EXPECT_TRUE(std::isnan(norm.coefficient));
  expect_usage_error([&] { optimizer.step(norm.coefficient); }, "the clip coefficient is nan");
  EXPECT_EQ(weight.to_vector<float>(), (std::vector<float>{1, 1, 1}));
  EXPECT_EQ(optimizer.steps(), 0);
}

}  // namespace
}  // namespace sinter
