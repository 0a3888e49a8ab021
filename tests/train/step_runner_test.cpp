// A replayed step does what an eager one does, to the last bit.
#include "train/step_runner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/runtime/runtime.h"
#include "optim/groups.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"
#include "tests/train/tiny_training.h"

namespace sinter::train {
namespace {

using testing::random_batch, testing::tiny_bert, testing::weights_of, testing::with_low_copies;

constexpr const char* kTable = "bert.embeddings.word_embeddings.weight";

/// A model in training, with all that a StepRunner needs.
struct Training {
  std::unique_ptr<nn::BertForSequenceClassification> model;
  optim::AdamW optimizer;
  optim::QueuedUpdate update;
  StepRunner runner;

  Training(Device device, Dtype compute, bool cuda_graphs, const optim::QueuedUpdateOptions& options,
           bool deferred_rows = false)
      : model(tiny_bert(device, compute)),
        optimizer(optim::decay_groups(model->named_parameters(), 0.01), {.lr = 1e-3}),
        update((deferred_rows ? optimizer.defer_rows(kTable) : void(),
                with_low_copies(optimizer, *model, compute, true)),
               options),
        runner(*model, optimizer, update, {.seed = 3, .cuda_graphs = cuda_graphs}) {}

  std::vector<std::byte> weights() { return weights_of(optimizer); }
};

/// One update of one to three micro-batches, the same for every training that is given.
void run_update(std::mt19937& random, std::uint32_t step, std::initializer_list<Training*> trainings) {
  std::vector<data::CollatedBatch> batches;
  std::int64_t samples = 0;
  for (std::size_t micro = 0, count = 1 + random() % 3; micro < count; ++micro) {
    batches.push_back(random_batch(random, samples));
    samples += batches.back().sample_count;
  }
  for (Training* training : trainings)
    for (std::size_t i = 0; i < batches.size(); ++i)
      training->runner.run(batches[i], {.global_step = step, .num_items = static_cast<double>(samples),
                                        .first = i == 0, .last = i + 1 == batches.size()});
}

void expect_equal(const std::vector<kernels::UpdateRecord>& found, const std::vector<kernels::UpdateRecord>& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].skipped, expected[i].skipped) << "update " << i;
    EXPECT_EQ(found[i].scale, expected[i].scale) << "update " << i;
    EXPECT_EQ(found[i].lr, expected[i].lr) << "update " << i;
    if (expected[i].skipped) continue;
    EXPECT_EQ(found[i].loss, expected[i].loss) << "update " << i;
    EXPECT_EQ(found[i].norm, expected[i].norm) << "update " << i;
  }
}

class StepRunnerTest : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = sinter::testing::why_not_on(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }
  static optim::QueuedUpdateOptions options(int steps) {
    optim::QueuedUpdateOptions options{.max_grad_norm = 1.0, .record_count = steps};
    for (int i = 0; i < steps; ++i) options.lr.push_back(1e-3 * (steps - i) / steps);
    return options;
  }

  /// So many updates eagerly and captured, with the arena full of NaN before every step; and the captured ones with
  /// rows of the word table updated late, or not. Gives the number of skipped ones.
  static std::int64_t expect_replay_equals_eager(int steps, Dtype compute, const optim::QueuedUpdateOptions& options,
                                                 bool deferred_rows) {
    Training eager(GetParam(), compute, false, options), captured(GetParam(), compute, true, options, deferred_rows);
    std::mt19937 random(11);
    for (int step = 0; step < steps; ++step) {
      captured.runner.arena().poison();
      run_update(random, static_cast<std::uint32_t>(step), {&eager, &captured});
    }
    const std::vector<kernels::UpdateRecord> expected = eager.update.drain(), found = captured.update.drain();
    EXPECT_EQ(expected.size(), static_cast<std::size_t>(steps));
    expect_equal(found, expected);
    EXPECT_EQ(captured.weights(), eager.weights());
    std::int64_t replayed = 0, captures = 0;
    for (const StepRunner::Bucket& bucket : captured.runner.histogram()) {
      captures += bucket.captured ? 1 : 0;
      replayed += std::max<std::int64_t>(bucket.batches - 1, 0);
    }
    EXPECT_GE(captures, 6);
    EXPECT_GT(replayed, steps);
    for (const StepRunner::Bucket& bucket : eager.runner.histogram()) EXPECT_FALSE(bucket.captured);
    return std::count_if(expected.begin(), expected.end(),
                         [](const kernels::UpdateRecord& record) { return record.skipped != 0; });
  }
  static std::int64_t expect_replay_equals_eager_through_overflows(int steps) {
    optim::QueuedUpdateOptions scaled = options(steps);
    scaled.loss_scaler = {.init_scale = 0x1p24, .growth_interval = 20};
    return expect_replay_equals_eager(steps, Dtype::f16, scaled, true);
  }
};

TEST_P(StepRunnerTest, ReplayEqualsEager) { expect_replay_equals_eager(50, Dtype::f32, options(50), false); }

TEST_P(StepRunnerTest, ReplayEqualsEagerFor200Steps) {
  expect_replay_equals_eager(200, Dtype::f32, options(200), false);
}

TEST_P(StepRunnerTest, ReplayWithRowsUpdatedLateEqualsEagerThroughOverflows) {
  EXPECT_GE(expect_replay_equals_eager_through_overflows(50), 3);   // at the start
}

TEST_P(StepRunnerTest, ReplayWithRowsUpdatedLateEqualsEagerThroughOverflowsFor200Steps) {
  const std::int64_t skipped = expect_replay_equals_eager_through_overflows(200);
  EXPECT_GE(skipped, 5);     // whenever the scale has grown too far, too
  EXPECT_LE(skipped, 100);
}

TEST_P(StepRunnerTest, NothingWaitsAndNothingIsTakenAfterTheWarmUp) {
  Runtime& runtime = Runtime::instance();
  Training training(GetParam(), Dtype::f32, true, options(200));
  std::mt19937 random(4);
  const auto run = [&](std::uint32_t from, std::uint32_t to) {
    std::mt19937 same(4);
    for (std::uint32_t step = from; step < to; ++step) run_update(same, step, {&training});
  };
  run(0, 40);
  run(40, 80);   // the same batches: every bucket is captured now
  const RuntimeCounters before = runtime.counters(GetParam());
  const std::size_t taken = runtime.allocator(GetParam()).stats().device_allocations;
  run(80, 120);
  const RuntimeCounters after = runtime.counters(GetParam());
  EXPECT_EQ(after.waits, before.waits);
  EXPECT_EQ(after.launches, before.launches) << "all launches are in graphs";
  EXPECT_GE(after.graph_launches - before.graph_launches, 40u);
  EXPECT_EQ(runtime.allocator(GetParam()).stats().device_allocations, taken);
  EXPECT_EQ(training.update.drain().size(), 120u);
  EXPECT_GT(runtime.counters(GetParam()).waits, after.waits) << "the mailbox is where it waits";
}

TEST_P(StepRunnerTest, TooManySizesAreCounted) {
  Training training(GetParam(), Dtype::f32, true, options(200));
  StepRunner few(*training.model, training.optimizer, training.update, {.most_buckets = 2});
  std::mt19937 random(1);
  const std::string said = sinter::testing::refusal(
      [&] {
        for (std::uint32_t step = 0; step < 20; ++step) few.run(random_batch(random, 0), {.global_step = step});
      },
      ErrorCode::unsupported);
  EXPECT_NE(said.find("the batches come in more than 2 sizes"), std::string::npos) << said;
  EXPECT_NE(said.find(" x T 32, longest 24, B "), std::string::npos) << said;
  std::mt19937 again(1);   // who catches that may go on, and is refused again
  EXPECT_EQ(sinter::testing::refusal(
                [&] {
                  for (std::uint32_t step = 20; step < 40; ++step)
                    few.run(random_batch(again, 0), {.global_step = step});
                },
                ErrorCode::unsupported).substr(0, 40), said.substr(0, 40));
}

TEST_P(StepRunnerTest, BatchesPaddedOnTheLeftRunAsTheyAre) {
  Training training(GetParam(), Dtype::f32, true, options(200));
  data::CollatedBatch batch;
  batch.sample_count = 2;
  batch.sequence_length = 3;
  batch.token_count = 5;
  batch.input_ids = {5, 6, 7, 0, 8, 9};
  batch.token_type_ids = std::vector<std::int64_t>(6, 0);
  batch.attention_mask = {1, 1, 1, 0, 1, 1};
  batch.lengths = {3, 2};
  batch.labels = {1, 0};
  training.runner.run(batch, {.num_items = 2});
  EXPECT_TRUE(training.runner.histogram().empty());
  const std::vector<kernels::UpdateRecord> records = training.update.drain();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_FALSE(records[0].skipped);
  EXPECT_GT(records[0].norm, 0);
}

SINTER_ON_OTHER_DEVICES(StepRunnerTest);

}  // namespace
}  // namespace sinter::train
