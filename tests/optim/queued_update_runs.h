// One run of updates, decided by the host as train/training_step.cpp does, and by QueuedUpdate.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "core/ops/elementwise.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "optim/queued_update.h"

namespace sinter::testing {

struct RunPlan {
  Dtype dtype = Dtype::f32;
  Device device = Device::cpu();
  optim::QueuedUpdateOptions options;
  int updates = 200;
  double hazard = 0.15;   ///< share of updates with something that is not finite
};

/// What one micro-batch brings: the gradient of each parameter that is used, and the loss that is reported.
struct MicroBatch {
  std::vector<std::pair<std::size_t, Tensor>> gradients;
  Tensor loss;
};

struct RunEnd {
  std::vector<kernels::UpdateRecord> records;
  std::vector<double> values, exp_avg, exp_avg_sq;
  kernels::UpdateState state;   ///< the counters and the scale
  std::int64_t steps = 0;
};

/// Three parameters in two groups of one optimizer, and the batches that they see: the same for the same plan.
class TrainingRun {
 public:
  explicit TrainingRun(const RunPlan& plan) : plan_(plan), random_(7) {
    for (const auto& [name, shape] :
         {std::pair{"large", Shape{61, 83}}, {"sometimes", Shape{5}}, {"small", Shape{7}}}) {
      Tensor x = Tensor::empty(shape, {plan.dtype, plan.device});
      normal_(x, 0, 1, 3, site_id(name));
      parameters_.push_back({name, x.set_requires_grad()});
    }
    optimizer_ = std::make_unique<optim::AdamW>(
        std::vector<optim::ParameterGroup>{{{parameters_[0], parameters_[1]}, 0.01}, {{parameters_[2]}, 0, 0.5}},
        optim::AdamWOptions{.lr = 0.01});
  }

  optim::AdamW& optimizer() { return *optimizer_; }
  const RunPlan& plan() const { return plan_; }

  std::vector<MicroBatch> next_update() {
    std::uniform_real_distribution<double> uniform;
    const int hazard = uniform(random_) < plan_.hazard ? static_cast<int>(random_() % 5) : -1;
    const double size = random_() % 2 == 0 ? 1e-3 : 1;   // of the gradient: some are clipped
    std::vector<MicroBatch> batches(1 + random_() % 3);
    for (MicroBatch& batch : batches) {
      for (std::size_t p = 0; p < parameters_.size(); ++p) {
        if (p == 1 && random_() % 2 == 0) continue;
        const Tensor& parameter = parameters_[p].tensor;
        std::vector<double> gradient(static_cast<std::size_t>(parameter.numel()));
        std::normal_distribution<double> normal(0, size);
        for (double& g : gradient) g = normal(random_);
        if (p == 0 && hazard >= 0 && hazard < 3) gradient[random_() % gradient.size()] = bad_gradient(hazard);
        batch.gradients.emplace_back(
            p, Tensor::from(gradient, parameter.shape()).to(plan_.dtype).to(plan_.device));
      }
      const double loss = hazard == 3 ? NAN : hazard == 4 ? HUGE_VAL : uniform(random_);
      batch.loss = Tensor::full({}, loss, {plan_.dtype, plan_.device});
    }
    return batches;
  }

  /// A loss whose gradients are those of the batch.
  Tensor loss_of(const MicroBatch& batch) const {
    Tensor loss;
    for (const auto& [p, gradient] : batch.gradients) {
      const Tensor part = sum(parameters_[p].tensor * gradient);
      loss = loss.defined() ? loss + part : part;
    }
    return loss;
  }

  RunEnd end(std::vector<kernels::UpdateRecord> records, const kernels::UpdateState& state) {
    const auto numbers = [](const Tensor& x) { return x.detach().to(Dtype::f64).to_vector<double>(); };
    FlatParameters& flat = optimizer_->parameters();
    return {std::move(records), numbers(flat.values()), numbers(flat.state("exp_avg")),
            numbers(flat.state("exp_avg_sq")), state, optimizer_->steps()};
  }

 private:
  /// inf, NaN, and what only a loss scale makes infinite.
  double bad_gradient(int hazard) const {
    if (hazard == 0) return -HUGE_VAL;
    if (hazard == 1) return NAN;
    return plan_.dtype == Dtype::f32 ? 3e38 : 1.5e308;
  }

  RunPlan plan_;
  std::mt19937 random_;
  ParameterList parameters_;
  std::unique_ptr<optim::AdamW> optimizer_;
};

/// One update as Trainer::apply_update makes it.
inline kernels::UpdateRecord update_on_host(TrainingRun& run, std::optional<optim::LossScaler>& scaler,
                                            kernels::UpdateState& state) {
  optim::AdamW& optimizer = run.optimizer();
  const optim::QueuedUpdateOptions& options = run.plan().options;
  const auto last = static_cast<std::int64_t>(options.lr.size()) - 1;
  optimizer.set_lr(options.lr[static_cast<std::size_t>(std::min(state.scheduler_steps, last))]);
  optimizer.zero_grad();
  double loss = 0;
  const double scale = scaler ? scaler->scale() : 1;
  for (const MicroBatch& batch : run.next_update()) {
    (scaler ? run.loss_of(batch) * scale : run.loss_of(batch)).backward();
    loss += batch.loss.item();
  }
  bool finite = std::isfinite(loss);
  double coefficient = 1, norm = 0;
  if (options.max_grad_norm > 0 || scaler) {
    const double most = options.max_grad_norm > 0 ? options.max_grad_norm : HUGE_VAL;
    const optim::GradNorm found = optim::clip_grad_norm(optimizer.parameters(), most, scale);
    finite = finite && !found.nonfinite;
    coefficient = found.coefficient;
    norm = found.norm;
  }
  if (scaler) scaler->update(!finite);
  if (!scaler) state.nonfinite_in_a_row = finite ? 0 : state.nonfinite_in_a_row + 1;
  if (finite) optimizer.step(coefficient);
  state.scheduler_steps += finite ? 1 : 0;
  ++state.global_step;
  return {loss, norm, optimizer.lr(), scale, finite ? 0 : 1, 0};
}

inline RunEnd run_on_host(const RunPlan& plan) {
  TrainingRun run(plan);
  kernels::UpdateState state;
  std::optional<optim::LossScaler> scaler;
  if (plan.options.loss_scaler) scaler.emplace(*plan.options.loss_scaler);
  std::vector<kernels::UpdateRecord> records;
  for (int i = 0; i < plan.updates; ++i) records.push_back(update_on_host(run, scaler, state));
  if (scaler) {
    const Json saved = scaler->state();
    state.scale = scaler->scale();
    state.growth_tracker = saved.get<std::int64_t>("growth_tracker", 0);
  }
  state.adam_t = run.optimizer().steps();
  return run.end(std::move(records), state);
}

inline void queue_update(TrainingRun& run, optim::QueuedUpdate& update) {
  run.optimizer().zero_grad();
  const Tensor gradient = update.loss_gradient();
  for (const MicroBatch& batch : run.next_update()) {
    run.loss_of(batch).backward(gradient.to(run.plan().dtype));
    update.add_loss(batch.loss);
  }
  update.run();
}

inline void drain_into(optim::QueuedUpdate& update, std::vector<kernels::UpdateRecord>& records) {
  for (const kernels::UpdateRecord& record : update.drain()) records.push_back(record);
}

inline RunEnd run_queued(const RunPlan& plan) {
  TrainingRun run(plan);
  optim::QueuedUpdate update(run.optimizer(), plan.options);
  std::vector<kernels::UpdateRecord> records;
  for (int i = 0; i < plan.updates; ++i) {
    queue_update(run, update);
    if (update.is_full()) drain_into(update, records);
  }
  drain_into(update, records);
  return run.end(std::move(records), update.read_state());
}

/// The same bits, NaN among them.
inline void expect_same_number(double actual, double expected, const char* what, std::size_t i) {
  EXPECT_TRUE(actual == expected || (std::isnan(actual) && std::isnan(expected)))
      << what << " of update " << i << " is " << actual << ", expected " << expected;
}

/// All decisions are the same, and every number is within `tolerance`.
inline void expect_same_run(const RunEnd& actual, const RunEnd& expected, double tolerance = 0) {
  ASSERT_EQ(actual.records.size(), expected.records.size());
  for (std::size_t i = 0; i < actual.records.size(); ++i) {
    const kernels::UpdateRecord &a = actual.records[i], &e = expected.records[i];
    expect_same_number(a.loss, e.loss, "the loss", i);
    expect_same_number(a.norm, e.norm, "the norm", i);
    expect_same_number(a.lr, e.lr, "the learning rate", i);
    expect_same_number(a.scale, e.scale, "the scale", i);
    EXPECT_EQ(a.skipped, e.skipped) << i;
    EXPECT_EQ(a.halted, e.halted) << i;
  }
  EXPECT_EQ(actual.state.scale, expected.state.scale);
  EXPECT_EQ(actual.state.growth_tracker, expected.state.growth_tracker);
  EXPECT_EQ(actual.state.global_step, expected.state.global_step);
  EXPECT_EQ(actual.state.scheduler_steps, expected.state.scheduler_steps);
  EXPECT_EQ(actual.state.adam_t, expected.state.adam_t);
  EXPECT_EQ(actual.state.nonfinite_in_a_row, expected.state.nonfinite_in_a_row);
  EXPECT_EQ(actual.steps, expected.steps);
  const auto near = [&](const std::vector<double>& a, const std::vector<double>& e, const char* what) {
    ASSERT_EQ(a.size(), e.size());
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], e[i], tolerance) << what << " " << i;
  };
  near(actual.values, expected.values, "parameter");
  near(actual.exp_avg, expected.exp_avg, "exp_avg");
  near(actual.exp_avg_sq, expected.exp_avg_sq, "exp_avg_sq");
}

/// With and without a loss scale and clipping, in f32 and f64. The scale grows and falls often, the records go around
/// their ring, and the schedule ends before the run.
inline std::vector<RunPlan> run_plans(Device device, int updates) {
  std::vector<double> lr;
  for (int i = 0; i < updates / 2; ++i) lr.push_back(0.02 * (i % 20) / 20);
  std::vector<RunPlan> plans;
  for (const Dtype dtype : {Dtype::f32, Dtype::f64})
    for (const double max_grad_norm : {0.0, 1.0})
      for (const bool scaled : {false, true}) {
        RunPlan plan{.dtype = dtype, .device = device, .updates = updates};
        plan.options = {.max_grad_norm = max_grad_norm, .lr = lr, .max_nonfinite_in_a_row = 100, .record_count = 7};
        if (scaled) plan.options.loss_scaler = optim::LossScalerOptions{.growth_interval = 3};
        // Without a norm a gradient that is not finite reaches the weights, with the host as with the device.
        if (max_grad_norm == 0 && !scaled) plan.hazard = 0;
        plans.push_back(plan);
      }
  return plans;
}

}  // namespace sinter::testing
