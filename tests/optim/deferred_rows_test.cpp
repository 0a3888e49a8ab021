// AdamW whose table is updated row by row when it is read, against the one that updates every row in every step.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <random>

#include "core/autograd/mode.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/gather.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "optim/queued_update.h"
#include "optim/sgd.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

namespace sinter {
namespace {

using testing::expect_usage_error;
using State = std::map<std::string, std::vector<float>>;

class DeferredRows : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = testing::why_not_on(device_); !why.empty()) GTEST_SKIP() << why;
  }
  const Device device_ = GetParam();
};

INSTANTIATE_TEST_SUITE_P(Devices, DeferredRows,
                         ::testing::Values(Device::cpu(), Device::simt(), Device::simt(1), Device::cuda()),
                         testing::name_of);

/// A small model: the sum of a table's rows times a matrix.
struct Model {
  Parameter table, matrix, bias;

  explicit Model(Device device, std::int64_t rows = 60)
      : table(parameter("table", {rows, 12}, device)),
        matrix(parameter("matrix", {12, 12}, device)),
        bias(parameter("bias", {12}, device)) {}

  static Parameter parameter(const std::string& name, const Shape& shape, Device device) {
    Tensor x = Tensor::empty(shape, {Dtype::f32, device});
    normal_(x, 0, 0.5, 3, site_id(name));
    return {name, x.set_requires_grad()};
  }
  std::vector<optim::ParameterGroup> groups(double weight_decay = 0.05) const {
    return {{{table, matrix}, weight_decay, 1}, {{bias}, 0, 0.5}};
  }
  Tensor loss(const std::vector<std::int64_t>& ids) const {
    const Tensor rows = embedding(table.tensor, Tensor::from(ids, {static_cast<std::int64_t>(ids.size())}), 1);
    const Tensor y = linear(rows, matrix.tensor) + bias.tensor;
    return sum(y * y) * 0.1;
  }
};

/// Runs updates from `from` on; their batches, learning rates and skips are functions of their numbers.
void train(const Model& model, optim::AdamW& optimizer, int from, int to, std::vector<double>* norms = nullptr) {
  for (int update = from; update < to; ++update) {
    std::mt19937 generator(static_cast<unsigned>(update));
    optimizer.set_lr(update % 11 == 10 ? 0 : 0.02 / (1 + 0.1 * update));
    optimizer.zero_grad();
    for (int micro = 0; micro < 2; ++micro) {
      std::vector<std::int64_t> ids;
      const auto below = static_cast<unsigned>(update < 4 ? 40 : 20);   // rows 20 to 39 are seen at first alone
      for (int i = 0; i < 5; ++i) ids.push_back(static_cast<std::int64_t>(generator() % below));
      model.loss(ids).backward();
    }
    const optim::GradNorm norm = optim::clip_grad_norm(optimizer.parameters(), 0.7);
    if (norms != nullptr) norms->push_back(norm.norm);
    if (update % 5 != 3) optimizer.step(norm.coefficient);   // condition 3: a skipped update is none
  }
}

State state_of(const Model& model, optim::AdamW& optimizer) {
  State state;
  for (const auto& [name, tensor] : optimizer.state_tensors()) state[name] = tensor.to_vector<float>();
  for (const Parameter* p : {&model.table, &model.matrix, &model.bias})
    state[p->name] = p->tensor.detach().to_vector<float>();
  return state;
}

/// Equal to the bit; -0 and 0 differ.
void expect_same_bits(const State& a, const State& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, values] : a) {
    ASSERT_EQ(values.size(), b.at(name).size()) << name;
    EXPECT_EQ(std::memcmp(values.data(), b.at(name).data(), values.size() * sizeof(float)), 0) << name;
  }
}

TEST_P(DeferredRows, HaveTheBitsOfTheDenseUpdate) {
  for (const double weight_decay : {0.05, 0.0}) {
    State states[2];
    std::vector<double> norms[2];
    for (const int deferred : {0, 1}) {
      const Model model(device_);
      optim::AdamW optimizer(model.groups(weight_decay), {.lr = 0.02});
      if (deferred != 0) optimizer.defer_rows("table");
      train(model, optimizer, 0, 30, &norms[deferred]);
      states[deferred] = state_of(model, optimizer);
      EXPECT_EQ(optimizer.steps(), 24);
    }
    expect_same_bits(states[1], states[0]);
    EXPECT_EQ(norms[1], norms[0]);
    EXPECT_NE(states[0]["table"], states[0]["exp_avg.table"]);
  }
}

TEST_P(DeferredRows, ReadsBetweenUpdatesChangeNothing) {
  const Model dense(device_), model(device_);
  optim::AdamW optimizer(dense.groups(), {.lr = 0.02}), deferred(model.groups(), {.lr = 0.02});
  deferred.defer_rows("table");
  for (int update = 0; update < 20; ++update) {
    train(dense, optimizer, update, update + 1);
    train(model, deferred, update, update + 1);
    if (update % 4 == 1) deferred.flush();
    if (update % 4 == 2) deferred.prepare_rows(Tensor::from<std::int64_t>({59, 0, 0}));
    if (update % 4 == 3) {   // an evaluation of some rows
      const NoGradGuard guard;
      EXPECT_EQ(model.loss({7, 33, 58, 7}).item(), dense.loss({7, 33, 58, 7}).item());
    }
  }
  expect_same_bits(state_of(model, deferred), state_of(dense, optimizer));
}

// A row waits for its update: that is what the others are spared.
TEST_P(DeferredRows, RowsWaitUntilTheyAreRead) {
  const Model model(device_);
  optim::AdamW optimizer(model.groups(), {.lr = 0.02});
  optimizer.defer_rows("table");
  const auto row = [&](std::int64_t r) { return model.table.tensor.detach().narrow(0, r, 1).to_vector<float>(); };
  const std::vector<float> before = row(50);
  for (int i = 0; i < 2; ++i) {
    optimizer.zero_grad();
    model.loss({3}).backward();
    optimizer.step();
  }
  EXPECT_EQ(row(50), before);
  optimizer.prepare_rows(Tensor::from<std::int64_t>({50}));
  EXPECT_NE(row(50), before);
  EXPECT_EQ(row(49), Model(device_).table.tensor.detach().narrow(0, 49, 1).to_vector<float>());
}

// Condition 5, as far as the optimizer sees it: state_tensors(), load_state(), a new optimizer and the end flush.
TEST_P(DeferredRows, ACheckpointMayBeTakenAnywhere) {
  const Model dense(device_);
  optim::AdamW optimizer(dense.groups(), {.lr = 0.02});
  train(dense, optimizer, 0, 25);
  const State expected = state_of(dense, optimizer);

  const Model first(device_);
  auto before = std::make_unique<optim::AdamW>(first.groups(), optim::AdamWOptions{.lr = 0.02});
  before->defer_rows("table");
  train(first, *before, 0, 13);
  State saved = state_of(first, *before);
  const std::int64_t steps = before->steps();

  const Model second(device_);
  optim::AdamW resumed(second.groups(), {.lr = 0.02});
  resumed.defer_rows("table");
  train(second, resumed, 3, 9);   // something else, which the checkpoint replaces
  const NoGradGuard guard;
  resumed.load_state(
      [&](const std::string& name) {
        const Shape shape = name.ends_with(".bias") ? Shape{12} : Shape{name.ends_with(".table") ? 60 : 12, 12};
        return Tensor::from(saved.at(name), shape);
      },
      steps);
  Tensor(second.table.tensor).copy_(first.table.tensor);
  Tensor(second.matrix.tensor).copy_(first.matrix.tensor);
  Tensor(second.bias.tensor).copy_(first.bias.tensor);
  {
    const GradModeGuard on(true);
    train(second, resumed, 13, 25);
    train(first, *before, 13, 25);
  }
  expect_same_bits(state_of(second, resumed), expected);
  before.reset();   // rows that waited are brought up to date
  EXPECT_EQ(first.table.tensor.detach().to_vector<float>(), expected.at("table"));
}

TEST_P(DeferredRows, ANewOptimizerFindsThemUpToDate) {
  const Model dense(device_), model(device_);
  optim::AdamW optimizer(dense.groups(), {.lr = 0.02}), deferred(model.groups(), {.lr = 0.02});
  deferred.defer_rows("table");
  train(dense, optimizer, 0, 9);
  train(model, deferred, 0, 9);
  const optim::Sgd next({{{model.table}, 0, 1}}, {.lr = 0.1});
  EXPECT_EQ(model.table.tensor.detach().to_vector<float>(), dense.table.tensor.detach().to_vector<float>());
}

// The table of coefficients holds 1024 updates: before it loses one that a row misses, all rows are brought up to date.
TEST(DeferredRowsOnCpu, MayWaitForThousandsOfUpdates) {
  State states[2];
  for (const int deferred : {0, 1}) {
    const Model model(Device::cpu(), 45);
    optim::AdamW optimizer(model.groups(), {.lr = 0.02});
    if (deferred != 0) optimizer.defer_rows("table");
    train(model, optimizer, 0, 2700);
    states[deferred] = state_of(model, optimizer);
  }
  expect_same_bits(states[1], states[0]);
}

// A learning rate that the replay does not take, and the next updates.
TEST_P(DeferredRows, ANegativeLearningRateIsTakenDensely) {
  State states[2];
  for (const int deferred : {0, 1}) {
    const Model model(device_);
    optim::AdamW optimizer(model.groups(), {.lr = 0.02});
    if (deferred != 0) optimizer.defer_rows("table");
    train(model, optimizer, 0, 6);
    optimizer.set_lr(-0.01);
    optimizer.zero_grad();
    model.loss({3, 44}).backward();
    optimizer.step();
    train(model, optimizer, 7, 12);
    states[deferred] = state_of(model, optimizer);
  }
  expect_same_bits(states[1], states[0]);
}

// An op that knows nothing of rows reads them as they are: then the update must not take its gradient for right.
TEST(DeferredRowsOnCpu, AGradientThroughStaleRowsIsRefused) {
  const Model model(Device::cpu());
  optim::AdamW optimizer(model.groups(), {.lr = 0.02});
  optimizer.defer_rows("table");
  const auto backward = [&] {
    optimizer.zero_grad();
    sum(index_select(model.table.tensor, 0, Tensor::from<std::int64_t>({5}))).backward();
  };
  backward();
  optimizer.step();   // every row is touched, and none lags yet
  train(model, optimizer, 0, 2);
  backward();
  const State before = state_of(model, optimizer);   // which flushes
  optimizer.step();
  train(model, optimizer, 5, 7);
  backward();
  EXPECT_THROW(
      {
        try {
          optimizer.step();
        } catch (const Error& error) {
          EXPECT_NE(std::string(error.what()).find("a touched row has not seen the update before this one"),
                    std::string::npos)
              << error.what();
          throw;
        }
      },
      Error);
  const std::int64_t steps = optimizer.steps();
  optimizer.flush();
  optimizer.step();
  EXPECT_EQ(optimizer.steps(), steps + 1);
}

/// Queued updates, of which every seventh is skipped, drained every hundred; in the middle all rows are read.
State train_queued(bool defers, int updates) {
  const Model model(Device::cpu());
  optim::AdamW optimizer(model.groups(), {.lr = 0.02});
  if (defers) optimizer.defer_rows("table");
  std::vector<double> lr;
  for (int i = 0; i < 40; ++i) lr.push_back(0.02 / (1 + i));
  optim::QueuedUpdate queued(optimizer, {.max_grad_norm = 0.7, .lr = lr, .max_nonfinite_in_a_row = 2,
                                         .record_count = 100});
  for (int update = 0; update < updates; ++update) {
    std::mt19937 generator(static_cast<unsigned>(update));
    std::vector<std::int64_t> ids;
    const auto below = static_cast<unsigned>(update < 4 ? 40 : 20);
    for (int i = 0; i < 5; ++i) ids.push_back(static_cast<std::int64_t>(generator() % below));
    optimizer.zero_grad();
    const Tensor loss = model.loss(ids);
    loss.backward(queued.loss_gradient());
    queued.add_loss(update % 7 == 3 ? loss * HUGE_VAL : loss);
    queued.flush_when_due();
    queued.run();
    if (queued.is_full()) queued.drain();
    if (update == updates / 2) {
      queued.drain();
      optimizer.state_tensors();
    }
  }
  queued.drain();
  return state_of(model, optimizer);
}

// More updates than the history holds, so that all rows are brought up to date on the way.
TEST(DeferredRowsOnCpu, QueuedUpdatesLeaveTheBitsOfDenseOnes) {
  expect_same_bits(train_queued(true, 3000), train_queued(false, 3000));
}

TEST(DeferredRowsOnCpu, QueuedUpdatesAskForAFlushInTime) {
  const Model model(Device::cpu());
  optim::AdamW optimizer(model.groups(), {.lr = 0.02});
  optimizer.defer_rows("table");
  optim::QueuedUpdate queued(optimizer, {.lr = {0.1}, .record_count = 5000});
  const auto update = [&] {
    optimizer.zero_grad();
    model.loss({2}).backward(queued.loss_gradient());
    queued.run();
  };
  for (int i = 0; i < 1024; ++i) update();
  expect_usage_error(update, "rows of table are 1024 updates late");
  queued.flush_when_due();
  update();
}

TEST(DeferredRowsOnCpu, RefusesWhatItCannotDefer) {
  const Model model(Device::cpu());
  optim::AdamW optimizer(model.groups(), {.lr = 0.02});
  expect_usage_error([&] { optimizer.prepare_rows(Tensor::from<std::int64_t>({1})); }, "call defer_rows before");
  expect_usage_error([&] { optimizer.defer_rows("tables"); }, "there is no trained parameter tables");
  expect_usage_error([&] { optimizer.defer_rows("bias"); }, "parameter bias is [12]");
  optimizer.defer_rows("table");
  optimizer.defer_rows("table");
  expect_usage_error([&] { optimizer.defer_rows("matrix"); }, "the rows of table are tracked already");
  expect_usage_error([&] { optimizer.prepare_rows(Tensor::from<std::int64_t>({60})); }, "60");
  optim::AdamW other(Model(Device::cpu()).groups(), {.lr = 0.02});
  optim::QueuedUpdate queued(other, {.lr = {0.1}});
  other.defer_rows("table");
  expect_usage_error([&] { queued.run(); }, "defer_rows came after it, for table");
}

}  // namespace
}  // namespace sinter
