// Updates that the device decides, against the same decisions made by the host.
#include "optim/queued_update.h"

#include <map>
#include <set>

#include "core/runtime/runtime.h"
#include "tests/core/expect_error.h"
#include "tests/optim/queued_update_runs.h"

namespace sinter {
namespace {

using kernels::UpdateRecord;
using kernels::UpdateState;
using namespace sinter::testing;

TEST(QueuedUpdate, EqualsTheHostToTheBit) {
  for (const RunPlan& plan : run_plans(Device::cpu(), 200)) {
    SCOPED_TRACE(std::string(name(plan.dtype)) + ", max_grad_norm " + std::to_string(plan.options.max_grad_norm) +
                 (plan.options.loss_scaler ? ", scaled" : ""));
    const RunEnd host = run_on_host(plan), queued = run_queued(plan);
    expect_same_run(queued, host);
    if (plan.hazard == 0) continue;
    // The run went through all that it was made for.
    std::set<double> scales;
    int skipped = 0, clipped = 0;
    for (const UpdateRecord& record : queued.records) {
      scales.insert(record.scale);
      skipped += record.skipped;
      clipped += record.norm > 1 ? 1 : 0;
    }
    EXPECT_GT(skipped, 10);
    EXPECT_GT(clipped, 10);
    EXPECT_LT(clipped + skipped, 190);
    if (plan.options.loss_scaler) {
      EXPECT_GT(scales.size(), 5u);
    }
  }
}

TEST(QueuedUpdate, HaltsAfterTooManyInARowThatAreNotFinite) {
  RunPlan plan;
  plan.options = {.max_grad_norm = 1, .lr = {0.1}, .max_nonfinite_in_a_row = 3};
  TrainingRun run(plan);
  optim::QueuedUpdate update(run.optimizer(), plan.options);
  const Tensor good = Tensor::full({}, 1), bad = Tensor::full({}, NAN);
  // Two are forgiven where one that is finite follows.
  for (const char kind : std::string("bbgbbbg")) {
    update.add_loss(kind == 'g' ? good : bad);
    update.run();
  }
  const std::vector<UpdateRecord> records = update.drain();
  std::vector<std::int32_t> skipped, halted;
  for (const UpdateRecord& record : records) {
    skipped.push_back(record.skipped);
    halted.push_back(record.halted);
  }
  EXPECT_EQ(skipped, (std::vector<std::int32_t>{1, 1, 0, 1, 1, 1, 1}));
  EXPECT_EQ(halted, (std::vector<std::int32_t>{0, 0, 0, 0, 0, 1, 1}));
  EXPECT_EQ(records.back().loss, 1);
  EXPECT_EQ(run.optimizer().steps(), 1);
  const UpdateState state = update.read_state();
  EXPECT_EQ(state.halted, 1);
  EXPECT_EQ(state.nonfinite_in_a_row, 3);
  EXPECT_EQ(state.scheduler_steps, 1);
  EXPECT_EQ(state.global_step, 7);
}

TEST(QueuedUpdate, AHaltedRunLeavesTheWeightsAlone) {
  RunPlan plan{.hazard = 0};
  plan.options = {.lr = {0.1}, .max_nonfinite_in_a_row = 1};
  TrainingRun run(plan);
  optim::QueuedUpdate update(run.optimizer(), plan.options);
  queue_update(run, update);
  const std::vector<double> before = run.end({}, {}).values;
  update.add_loss(Tensor::full({}, HUGE_VAL));
  update.run();
  for (int i = 0; i < 3; ++i) queue_update(run, update);
  EXPECT_EQ(run.end({}, {}).values, before);
  EXPECT_EQ(update.drain().back().halted, 1);
}

TEST(QueuedUpdate, ResumesToTheBit) {
  for (const RunPlan& plan : run_plans(Device::cpu(), 60)) {
    const RunEnd whole = run_queued(plan);
    TrainingRun run(plan);
    std::vector<UpdateRecord> records;
    UpdateState saved;
    {
      optim::QueuedUpdate update(run.optimizer(), plan.options);
      for (int i = 0; i < 25; ++i) {
        queue_update(run, update);
        if (update.is_full()) drain_into(update, records);
      }
      drain_into(update, records);
      const UpdateState all = update.read_state();
      saved = {.scale = all.scale, .growth_tracker = all.growth_tracker, .global_step = all.global_step,
               .scheduler_steps = all.scheduler_steps, .adam_t = all.adam_t,
               .nonfinite_in_a_row = all.nonfinite_in_a_row};
    }
    std::map<std::string, Tensor> moments;
    for (const auto& [name, tensor] : run.optimizer().state_tensors()) {
      moments[name] = tensor.clone();
      Tensor(tensor).fill_(NAN);
    }
    optim::QueuedUpdate update(run.optimizer(), plan.options);
    run.optimizer().load_state([&](const std::string& name) { return moments.at(name); }, saved.adam_t);
    update.write_state(saved);
    for (int i = 25; i < 60; ++i) {
      queue_update(run, update);
      if (update.is_full()) drain_into(update, records);
    }
    drain_into(update, records);
    expect_same_run(run.end(records, update.read_state()), whole);
  }
}

TEST(QueuedUpdate, AllocatesNothingAfterItsConstruction) {
  for (const RunPlan& plan : run_plans(Device::cpu(), 1)) {
    RunPlan clean = plan;
    clean.hazard = 0;
    clean.options.lr = {0.1};
    TrainingRun run(clean);
    optim::QueuedUpdate update(run.optimizer(), clean.options);
    EXPECT_TRUE(run.optimizer().parameters().has_state("exp_avg"));
    EXPECT_TRUE(run.optimizer().parameters().has_state("exp_avg_sq"));
    const Tensor loss = Tensor::full({}, 1);
    const CachingAllocator& allocator = Runtime::instance().allocator(Device::cpu());
    const std::size_t before = allocator.stats().allocations;
    for (int i = 0; i < 3; ++i) {
      run.optimizer().zero_grad();
      update.add_loss(loss);
      update.run();
    }
    EXPECT_EQ(allocator.stats().allocations, before);
  }
}

TEST(QueuedUpdate, TheLossGradientIsTheScale) {
  RunPlan plan;
  plan.options = {.loss_scaler = optim::LossScalerOptions{.init_scale = 4, .growth_interval = 2}, .lr = {0.1}};
  TrainingRun run(plan);
  optim::QueuedUpdate update(run.optimizer(), plan.options);
  const Tensor gradient = update.loss_gradient();
  EXPECT_EQ(gradient.dtype(), Dtype::f32);
  EXPECT_EQ(gradient.shape(), Shape{});
  EXPECT_EQ(gradient.item(), 4);
  for (const double scale : {4.0, 8.0, 8.0, 16.0}) {
    update.run();
    EXPECT_EQ(gradient.item(), scale);
  }
  UpdateState state = update.read_state();
  update.drain();
  state.scale = 32;
  update.write_state(state);
  EXPECT_EQ(gradient.item(), 32);
}

TEST(QueuedUpdate, TheTableOfRatesMayChange) {
  RunPlan plan;
  plan.options = {.lr = {0.1, 0.2, 0.3}};
  TrainingRun run(plan);
  optim::QueuedUpdate update(run.optimizer(), plan.options);
  const auto rates = [&](int updates) {
    for (int i = 0; i < updates; ++i) update.run();
    std::vector<double> found;
    for (const UpdateRecord& record : update.drain()) found.push_back(record.lr);
    return found;
  };
  EXPECT_EQ(rates(2), (std::vector<double>{0.1, 0.2}));
  update.set_lr({0.5, 0.6});
  EXPECT_EQ(rates(2), (std::vector<double>{0.6, 0.6}));
  expect_usage_error([&] { update.set_lr({}); }, "the table of learning rates is empty");
  expect_usage_error([&] { update.set_lr({1, 2, 3, 4}); }, "has 4 learning rates, the first one had 3");
  expect_usage_error([&] { update.set_lr({1, -2}); }, "the learning rate of step 1 is -2");
  EXPECT_EQ(rates(1), (std::vector<double>{0.6}));
}

TEST(QueuedUpdate, RecordsMustBeDrainedInTime) {
  RunPlan plan;
  plan.options = {.lr = {0.1}, .record_count = 3};
  TrainingRun run(plan);
  optim::QueuedUpdate update(run.optimizer(), plan.options);
  EXPECT_TRUE(update.drain().empty());
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(update.is_full());
    update.run();
  }
  EXPECT_TRUE(update.is_full());
  expect_usage_error([&] { update.run(); }, "3 updates wait for drain(), and there is room for 3 records");
  expect_usage_error([&] { update.count_replay(); }, "3 updates wait for drain()");
  expect_usage_error([&] { update.write_state({}); }, "3 updates of a QueuedUpdate were not drained");
  EXPECT_EQ(update.drain().size(), 3u);
  EXPECT_EQ(run.optimizer().steps(), 3);
  update.run();
  EXPECT_EQ(update.drain().size(), 1u);
  // Replays that nobody counted, as the device would have done them.
  const_cast<UpdateState*>(update.device_state())->global_step += 4;
  expect_usage_error([&] { update.drain(); }, "the device did 4 updates since the last drain");
}

TEST(QueuedUpdate, TheHostsPathAndItsOwnTakeTurns) {
  RunPlan plan{.hazard = 0};
  plan.options = {.lr = {0.1}};
  TrainingRun run(plan);
  optim::AdamW& optimizer = run.optimizer();
  optimizer.step();
  optim::QueuedUpdate update(optimizer, plan.options);
  update.run();
  expect_usage_error([&] { optimizer.step(); }, "AdamW::step: 1 update of a QueuedUpdate was not drained");
  expect_usage_error([&] { optimizer.load_state([](const std::string&) { return Tensor(); }, 1); },
                     "AdamW::load_state: 1 update");
  expect_usage_error([&] { optim::QueuedUpdate(optimizer, plan.options); }, "was not drained");
  update.drain();
  EXPECT_EQ(optimizer.steps(), 2);
  optimizer.step();
  EXPECT_EQ(optimizer.steps(), 3);
  expect_usage_error([&] { update.run(); }, "the optimizer has done 3 updates, 2 of them here");
  UpdateState state = update.read_state();
  EXPECT_EQ(state.adam_t, 2);
  state.adam_t = 3;
  update.write_state(state);
  update.run();
  EXPECT_EQ(update.drain().size(), 1u);
  EXPECT_EQ(optimizer.steps(), 4);
}

TEST(QueuedUpdate, RefusesWhatIsOutOfRange) {
  TrainingRun run{RunPlan{}};
  optim::AdamW& optimizer = run.optimizer();
  const auto refused = [&](const optim::QueuedUpdateOptions& options, std::string_view says) {
    expect_usage_error([&] { optim::QueuedUpdate(optimizer, options); }, says);
  };
  refused({.lr = {}}, "the table of learning rates is empty");
  refused({.lr = {NAN}}, "the learning rate of step 0 is nan");
  refused({.max_grad_norm = -1, .lr = {1}}, "max_grad_norm is -1");
  refused({.lr = {1}, .max_nonfinite_in_a_row = 0}, "max_nonfinite_in_a_row is 0");
  refused({.lr = {1}, .record_count = 0}, "record_count is 0");
  refused({.loss_scaler = optim::LossScalerOptions{.init_scale = 0}, .lr = {1}}, "init_scale is 0");
  optim::QueuedUpdate plain(optimizer, {.lr = {1}});
  expect_usage_error([&] { plain.add_loss(Tensor::ones({2})); }, "the loss is f32 [2] on cpu");
  expect_usage_error([&] { plain.add_loss(Tensor::arange(1)); }, "the loss is i64 [1]");
  optim::QueuedUpdate scaled(optimizer, {.loss_scaler = optim::LossScalerOptions{.growth_interval = 3}, .lr = {1}});
  const auto bad_state = [&](optim::QueuedUpdate& update, const UpdateState& state, std::string_view says) {
    expect_error([&] { update.write_state(state); }, ErrorCode::bad_input, says);
  };
  bad_state(plain, {.global_step = -1}, "global_step is -1");
  bad_state(plain, {.scheduler_steps = -1}, "scheduler_steps is -1");
  bad_state(plain, {.adam_t = -1}, "adam_t is -1");
  bad_state(plain, {.nonfinite_in_a_row = -1}, "nonfinite_in_a_row is -1");
  bad_state(plain, {.scale = 2}, "scale is 2, it must be 1 without a loss_scaler");
  bad_state(scaled, {.scale = 0.5}, "scale is 0.5");
  bad_state(scaled, {.scale = 1e39}, "scale is 1e+39");
  bad_state(scaled, {.scale = 8, .growth_tracker = 3}, "growth_tracker is 3");
}

}  // namespace
}  // namespace sinter
