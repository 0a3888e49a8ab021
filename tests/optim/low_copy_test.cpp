// Updates of parameters that have a copy, and gradients, in 16 bits: the bits of the f32 path whose weights are cast in
// every forward and whose gradients are cast back.
#include "core/low_copy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <optional>

#include "core/autograd/mode.h"
#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "core/runtime/runtime.h"
#include "core/runtime/step_arena.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "optim/queued_update.h"
#include "optim/sgd.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

namespace sinter {
namespace {

enum class Keep { nothing, copy, copy_and_gradients };

constexpr int kUpdates = 6, kOverflow = 3;   ///< in update 3 a gradient is beyond f16

struct Outcome {
  std::vector<double> values, exp_avg, exp_avg_sq, norms;
  std::int64_t steps = 0;
};

class LowUpdates : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(device_); !why.empty()) GTEST_SKIP() << why;
  }

  /// Two matrices of products with a table between them, and a bias in a second group.
  std::unique_ptr<optim::AdamW> make(Keep keep, Dtype low) {
    parameters_.clear();
    for (const auto& [name, shape] :
         {std::pair{"first", Shape{61, 83}}, {"table", Shape{40, 6}}, {"second", Shape{33, 5}}, {"bias", Shape{7}}}) {
      Tensor x = Tensor::empty(shape, {Dtype::f32, device_});
      normal_(x, 0, 1, 3, site_id(name));
      parameters_.push_back({name, x.set_requires_grad()});
    }
    auto optimizer = std::make_unique<optim::AdamW>(
        std::vector<optim::ParameterGroup>{{{parameters_[0], parameters_[1], parameters_[2]}, 0.01},
                                           {{parameters_[3]}}},
        optim::AdamWOptions{.lr = 0.01});
    if (keep != Keep::nothing)
      optimizer->parameters().keep_low_copy(low, {"first", "second"}, keep == Keep::copy_and_gradients);
    return optimizer;
  }

  const Tensor& first() const { return parameters_[0].tensor; }

  /// Those of the matrices come through 16 bits.
  Tensor loss_with(const Tensors& gradients, Dtype low) const {
    Tensor total;
    for (std::size_t p = 0; p < parameters_.size(); ++p) {
      const Tensor& x = parameters_[p].tensor;
      const bool is_product = p % 2 == 0;
      const Tensor part = sum((is_product ? rounded(x, low).to(Dtype::f32) : x) * gradients[p]);
      total = total.defined() ? total + part : part;
    }
    return total;
  }
  static void draw(Tensor& gradient, int update, std::size_t parameter) {
    normal_(gradient, 0, update == kOverflow && parameter == 0 ? 1e6 : 1, 4,
            static_cast<std::uint32_t>(10 * update) + static_cast<std::uint32_t>(parameter));
  }
  /// With random ones.
  Tensor loss(int update, Dtype low) const {
    Tensors gradients;
    for (std::size_t p = 0; p < parameters_.size(); ++p) {
      gradients.push_back(Tensor::empty(parameters_[p].tensor.shape(), {Dtype::f32, device_}));
      draw(gradients[p], update, p);
    }
    return loss_with(gradients, low);
  }

  std::uint64_t launches() const { return Runtime::instance().counters(device_).launches; }

  /// The copy is the parameter, rounded, and nobody had to round it again.
  void expect_current(Dtype low) const {
    const NoGradGuard guard;
    for (const std::size_t p : {0, 2}) {
      const std::uint64_t before = launches();
      const Tensor copy = rounded(parameters_[p].tensor, low);
      EXPECT_EQ(launches(), before);
      EXPECT_EQ(copy.to(Dtype::f64).to_vector<double>(),
                parameters_[p].tensor.to(low).to(Dtype::f64).to_vector<double>());
    }
  }

  Outcome end(optim::AdamW& optimizer, std::vector<double> norms) const {
    optimizer.flush();
    FlatParameters& flat = optimizer.parameters();
    const auto numbers = [](const Tensor& x) { return x.detach().to(Dtype::f64).to_vector<double>(); };
    return {numbers(flat.values()), numbers(flat.state("exp_avg")), numbers(flat.state("exp_avg_sq")), std::move(norms),
            optimizer.steps()};
  }

  Outcome by_host(Keep keep, Dtype low, bool defer = false) {
    const std::unique_ptr<optim::AdamW> optimizer = make(keep, low);
    if (defer) optimizer->defer_rows("table");
    std::vector<double> norms;
    for (int update = 0; update < kUpdates; ++update) {
      optimizer->zero_grad();
      loss(update, low).backward();
      const optim::GradNorm norm = optim::clip_grad_norm(optimizer->parameters(), 1);
      EXPECT_EQ(norm.nonfinite, low == Dtype::f16 && update == kOverflow);
      if (norm.nonfinite) continue;
      norms.push_back(norm.norm);
      optimizer->step(norm.coefficient);
      if (keep != Keep::nothing) expect_current(low);
    }
    return end(*optimizer, std::move(norms));
  }

  Outcome queued(Keep keep, Dtype low) {
    const std::unique_ptr<optim::AdamW> optimizer = make(keep, low);
    optim::QueuedUpdate update(*optimizer, {.max_grad_norm = 1,
                                            .loss_scaler = optim::LossScalerOptions{.init_scale = 8},
                                            .lr = {0.01, 0.02}});
    for (int i = 0; i < kUpdates; ++i) {
      optimizer->zero_grad();
      const Tensor scalar = loss(i, low);
      scalar.backward(update.loss_gradient());
      update.add_loss(scalar);
      update.run();
      if (keep != Keep::nothing) expect_current(low);
    }
    std::vector<double> norms;
    for (const kernels::UpdateRecord& record : update.drain()) {
      EXPECT_EQ(record.skipped != 0, low == Dtype::f16 && norms.size() == kOverflow);
      norms.push_back(record.skipped != 0 ? 0 : record.norm);
    }
    return end(*optimizer, std::move(norms));
  }

  const Device device_ = GetParam();
  ParameterList parameters_;
};

INSTANTIATE_TEST_SUITE_P(Devices, LowUpdates, ::testing::Values(Device::cpu(), Device::simt(), Device::cuda()),
                         testing::name_of);

void expect_same(const Outcome& found, const Outcome& expected) {
  EXPECT_EQ(found.values, expected.values);
  EXPECT_EQ(found.exp_avg, expected.exp_avg);
  EXPECT_EQ(found.exp_avg_sq, expected.exp_avg_sq);
  EXPECT_EQ(found.norms, expected.norms);
  EXPECT_EQ(found.steps, expected.steps);
}

TEST_P(LowUpdates, HaveTheBitsOfCasts) {
  for (const Dtype low : {Dtype::f16, Dtype::bf16}) {
    SCOPED_TRACE(name(low));
    const Outcome host = by_host(Keep::nothing, low), device = queued(Keep::nothing, low);
    EXPECT_EQ(host.steps, low == Dtype::f16 ? kUpdates - 1 : kUpdates);
    EXPECT_EQ(device.steps, host.steps);
    for (const Keep keep : {Keep::copy, Keep::copy_and_gradients}) {
      expect_same(by_host(keep, low), host);
      expect_same(by_host(keep, low, true), host);
      expect_same(queued(keep, low), device);
    }
  }
}

// Gradients that change, one of them beyond f16, and a weight that somebody writes between two steps.
TEST_P(LowUpdates, AReplayedStepEqualsOneThatTheHostLaunches) {
  if (device_.is_cpu()) GTEST_SKIP() << "steps of the CPU are not recorded";
  const auto run = [&](bool replayed) {
    const std::unique_ptr<optim::AdamW> optimizer = make(Keep::copy_and_gradients, Dtype::f16);
    optim::QueuedUpdate update(*optimizer, {.max_grad_norm = 1,
                                            .loss_scaler = optim::LossScalerOptions{.init_scale = 8},
                                            .lr = {0.01, 0.02}});
    Tensors gradients;
    for (const Parameter& p : parameters_) gradients.push_back(Tensor::zeros(p.tensor.shape(), p.tensor.options()));
    const auto step = [&] {
      optimizer->zero_grad();
      const Tensor scalar = loss_with(gradients, Dtype::f16);
      scalar.backward(update.loss_gradient());
      update.add_loss(scalar);
      update.run();
    };
    StepGraph graph;
    StepArena arena(device_);
    for (int i = 0; i < 2 * kUpdates; ++i) {
      for (std::size_t p = 0; p < gradients.size(); ++p)
        draw(gradients[p], i, p);
      if (i == kUpdates) {
        const NoGradGuard guard;
        Tensor(first()).fill_(0.3);
      }
      if (!replayed) {
        step();
      } else if (i == 0) {
        const StepPlan temporaries = arena.observe(step);
        graph = arena.capture(temporaries, step);
      } else {
        optimizer->parameters().refresh_low_copies();
        graph.launch();
        update.count_replay();
      }
      expect_current(Dtype::f16);
    }
    std::vector<double> norms;
    for (const kernels::UpdateRecord& record : update.drain()) norms.push_back(record.skipped != 0 ? 0 : record.norm);
    EXPECT_EQ(norms[kOverflow], 0);
    EXPECT_EQ(norms.size(), 2u * kUpdates);
    return end(*optimizer, std::move(norms));
  };
  expect_same(run(true), run(false));
}

TEST_P(LowUpdates, ASkippedUpdateLeavesTheCopyRight) {
  const std::unique_ptr<optim::AdamW> optimizer = make(Keep::copy_and_gradients, Dtype::f16);
  optim::QueuedUpdate update(*optimizer, {.loss_scaler = optim::LossScalerOptions{.init_scale = 8}, .lr = {0.01}});
  optimizer->zero_grad();
  const Tensor scalar = loss(kOverflow, Dtype::f16);
  scalar.backward(update.loss_gradient());
  {
    const NoGradGuard guard;
    Tensor(first()).fill_(0.3);   // between the forward and the update
  }
  update.add_loss(scalar);
  update.run();
  expect_current(Dtype::f16);
  EXPECT_EQ(update.drain().back().skipped, 1);
  EXPECT_EQ(first().detach().to_vector<float>()[0], 0.3f);
}

TEST_P(LowUpdates, WritersAndNewMomentsAreFollowed) {
  const std::unique_ptr<optim::AdamW> optimizer = make(Keep::copy_and_gradients, Dtype::f16);
  optimizer->load_state([&](const std::string& name) {
    const Segment& segment = *optimizer->parameters().find(name.substr(name.find('.') + 1));
    return Tensor::full(segment.shape, 0.5, {Dtype::f32, device_});
  }, 3);
  expect_current(Dtype::f16);
  {
    const NoGradGuard guard;
    Tensor(first()).fill_(0.1);   // as a checkpoint's weights are loaded
    EXPECT_EQ(rounded(first(), Dtype::f16).to(Dtype::f32).to_vector<float>()[5],
              kernels::to_float(kernels::to_f16(0.1f)));
  }
  optimizer->zero_grad();
  loss(0, Dtype::f16).backward();
  optimizer->step();
  expect_current(Dtype::f16);
}

TEST_P(LowUpdates, RefuseWhoDoesNotKnowThem) {
  const std::unique_ptr<optim::AdamW> late = make(Keep::nothing, Dtype::f16);
  optim::QueuedUpdate update(*late, {.loss_scaler = {}, .lr = {0.01}});
  late->parameters().keep_low_copy(Dtype::f16, {"first"}, false);
  testing::expect_usage_error([&] { update.run(); }, "keep_low_copy came after it was made");

  const ParameterList parameters = parameters_;
  optim::Sgd sgd({{parameters, 0}}, {.lr = 0.5});
  sgd.parameters().keep_low_copy(Dtype::f16, {"first"}, false);
  sgd.zero_grad();
  loss(0, Dtype::f16).backward();
  sgd.step();
  const NoGradGuard guard;
  const Tensor copy = rounded(first(), Dtype::f16);   // a cast, after each update
  EXPECT_EQ(copy.to(Dtype::f64).to_vector<double>(), first().to(Dtype::f16).to(Dtype::f64).to_vector<double>());
  optim::Sgd low({{parameters, 0}}, {.lr = 0.5});
  low.parameters().keep_low_copy(Dtype::f16, {"first"}, true);
  testing::expect_error([&] { low.step(); }, ErrorCode::unsupported, "gradients are kept in 16 bits, which only AdamW");
}

}  // namespace
}  // namespace sinter
