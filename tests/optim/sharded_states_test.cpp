// ZeRO stage 1: ranks share the optimizer's states out.
#include <gtest/gtest.h>

#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/autograd/mode.h"
#include "core/ops/elementwise.h"
#include "core/random.h"
#include "optim/adamw.h"
#include "optim/queued_update.h"
#include "optim/sgd.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

namespace sinter::optim {
namespace {

std::shared_ptr<ProcessGroup> borrowed(ProcessGroup& group) { return {&group, [](ProcessGroup*) {}}; }

/// Two groups, of 5 and 3 blocks of 4096 elements, whose border is not one of shards.
struct Model {
  explicit Model(Device device = Device::cpu()) {
    for (const auto& [name, shape] : {std::pair{"a", Shape{100, 60}}, {"b", Shape{12'000}}, {"c", Shape{70, 100}},
                                      {"d", Shape{4097}}}) {
      Tensor host = Tensor::empty(shape);
      normal_(host, 0, 1, 3, site_id(name));
      Tensor made = host.to(device);
      parameters.push_back({name, made.set_requires_grad()});
    }
    groups = {{.parameters = {parameters[0], parameters[1]}, .weight_decay = 0.1},
              {.parameters = {parameters[2], parameters[3]}, .lr_scale = 0.5}};
  }

  ParameterList parameters;
  std::vector<ParameterGroup> groups;
};

using Maker = std::function<std::unique_ptr<Optimizer>(Model&)>;
std::unique_ptr<Optimizer> make_adamw(Model& model) {
  return std::make_unique<AdamW>(model.groups, AdamWOptions{.lr = 0.01});
}
std::unique_ptr<Optimizer> make_sgd(Model& model) {
  return std::make_unique<Sgd>(model.groups, SgdOptions{.lr = 0.01, .momentum = 0.9});
}

void put_gradients(Optimizer& optimizer, int step) {
  Tensor host = Tensor::empty({optimizer.parameters().numel()});
  normal_(host, 0, 1, 5, static_cast<std::uint32_t>(step));
  optimizer.zero_grad();
  optimizer.parameters().settle_gradients();
  for (const Segment& segment : optimizer.parameters().segments())
    optimizer.parameters().gradient(segment).copy_(host.narrow(0, segment.offset, segment.numel)
                                                       .reshape(segment.shape).to(segment.tensor.device()));
}

void steps(Optimizer& optimizer, int first, int count) {
  for (int step = first; step < first + count; ++step) {
    put_gradients(optimizer, step);
    optimizer.step(0.5);
  }
}

using State = std::map<std::string, std::vector<float>>;
State read(Optimizer& optimizer) {
  State state;
  for (const auto& [name, tensor] : optimizer.state_tensors())
    state[name] = tensor.to(Device::cpu()).to_vector<float>();
  return state;
}
std::vector<float> values(Optimizer& optimizer) {
  return optimizer.parameters().values().to(Device::cpu()).to_vector<float>();
}

void same_bits(const Maker& make, int ranks, const std::function<Device(int)>& device_of) {
  Model model(device_of(0));
  const std::unique_ptr<Optimizer> whole = make(model);
  steps(*whole, 0, 5);
  const State halfway = read(*whole);
  const std::vector<float> halfway_values = values(*whole);
  steps(*whole, 5, 3);
  const State expected = read(*whole);
  LocalSim::run(ranks, [&](ProcessGroup& group) {
    Model mine(device_of(group.rank()));
    const std::unique_ptr<Optimizer> sharded = make(mine);
    sharded->shard_states(borrowed(group));
    sharded->shard_states(borrowed(group));   // again does nothing
    steps(*sharded, 0, 5);
    EXPECT_EQ(values(*sharded), halfway_values);
    const State found = read(*sharded);
    EXPECT_EQ(found, group.rank() == 0 ? halfway : State{});
    // The states and values of all ranks come from one place, as from a file.
    Model next(device_of(group.rank()));
    const std::unique_ptr<Optimizer> resumed = make(next);
    resumed->shard_states(borrowed(group));
    resumed->parameters().values().copy_(sharded->parameters().values());
    resumed->load_state(
        [&](const std::string& name) {
          const Segment* const segment = resumed->parameters().find(name.substr(name.find('.') + 1));
          return Tensor::from(halfway.at(name), segment->shape);
        },
        5);
    steps(*resumed, 5, 3);
    EXPECT_EQ(values(*resumed), values(*whole));
    const State end = read(*resumed);
    EXPECT_EQ(end, group.rank() == 0 ? expected : State{});
  });
}

TEST(ShardedStates, HaveTheBitsOfWholeOnes) {
  const auto cpu = [](int) { return Device::cpu(); };
  for (const int ranks : {1, 2, 3, 8, 9}) {   // of 9 only the last has any block
    same_bits(make_adamw, ranks, cpu);
    same_bits(make_sgd, ranks, cpu);
  }
}

TEST(ShardedStates, OnEmulatedDevices) {
  if (const std::string why = testing::why_not_on(Device::simt(1)); !why.empty()) GTEST_SKIP() << why;
  same_bits(make_adamw, 2, [](int rank) { return Device::simt(rank); });
}

/// Updates that the device decides, of which one is skipped; with 16-bit copies, for which those of all parameters come
/// to `low`.
std::vector<float> queued_steps(AdamW& optimizer, std::vector<float>& low) {
  optimizer.parameters().keep_low_copy(Dtype::f16, {"a", "c"}, false);
  QueuedUpdate update(optimizer, {.max_grad_norm = 1, .lr = {0.1, 0.05, 0.02}});
  const Tensor nan = Tensor::full({}, std::numeric_limits<double>::quiet_NaN(),
                                  {Dtype::f32, optimizer.parameters().values().device()});
  for (int step = 0; step < 5; ++step) {
    put_gradients(optimizer, step);
    if (step == 2) update.add_loss(nan);
    update.run();
  }
  EXPECT_EQ(update.drain()[2].skipped, 1);
  EXPECT_EQ(optimizer.steps(), 4);
  for (const char* name : {"a", "c"}) {
    const std::vector<float> copy = rounded(optimizer.parameters().find(name)->tensor, Dtype::f16).to(Device::cpu())
                                        .to(Dtype::f32).to_vector<float>();
    low.insert(low.end(), copy.begin(), copy.end());
  }
  return values(optimizer);
}

void same_bits_when_queued(int ranks, const std::function<Device(int)>& device_of) {
  Model model(device_of(0));
  AdamW whole(model.groups, {});
  std::vector<float> low;
  const std::vector<float> expected = queued_steps(whole, low);
  LocalSim::run(ranks, [&](ProcessGroup& group) {
    Model mine(device_of(group.rank()));
    AdamW sharded(mine.groups, {});
    sharded.shard_states(borrowed(group));
    std::vector<float> own_low;
    EXPECT_EQ(queued_steps(sharded, own_low), expected);
    EXPECT_EQ(own_low, low);
  });
}

TEST(ShardedStates, OfQueuedUpdatesHaveTheBitsOfWholeOnes) {
  for (const int ranks : {1, 2, 3, 8, 9}) same_bits_when_queued(ranks, [](int) { return Device::cpu(); });
}

TEST(ShardedStates, OfQueuedUpdatesOnEmulatedDevices) {
  if (const std::string why = testing::why_not_on(Device::simt(1)); !why.empty()) GTEST_SKIP() << why;
  same_bits_when_queued(2, [](int rank) { return Device::simt(rank); });
}

TEST(ShardedStates, TakeTheirShareOfMemory) {
  LocalSim::run(3, [](ProcessGroup& group) {
    Model model;
    AdamW optimizer(model.groups, {});
    optimizer.shard_states(borrowed(group));
    steps(optimizer, 0, 1);
    const std::int64_t blocks = group.rank() == 2 ? 4 : 2;   // of 8
    EXPECT_EQ(optimizer.parameters().state("exp_avg").numel(), blocks * kernels::kFlatBlock);
    EXPECT_EQ(optimizer.parameters().state("exp_avg_sq").numel(), blocks * kernels::kFlatBlock);
  });
}

TEST(ShardedStates, RefuseWhatTheyCannot) {
  LocalSim::run(2, [](ProcessGroup& group) {
    Model model;
    AdamW optimizer(model.groups, {});
    optimizer.shard_states(borrowed(group));
    testing::expect_usage_error([&] { optimizer.defer_rows("a"); }, "rows of a cannot be updated late");
    testing::expect_error([&] { FlatParameters::adopt({model.parameters}, &optimizer.parameters()); },
                          ErrorCode::unsupported, "are shared out between ranks");
    Model other;
    AdamW late(other.groups, {});
    steps(late, 0, 1);
    testing::expect_usage_error([&] { late.shard_states(borrowed(group)); },
                                "share the states out before the first update");
    Model sixteen;
    AdamW low(sixteen.groups, {});
    low.shard_states(borrowed(group));
    low.parameters().keep_low_copy(Dtype::f16, {"a"}, true);
    testing::expect_error([&] { low.step(); }, ErrorCode::unsupported, "only AdamW reads that is not sharded");
    testing::expect_error([&] { QueuedUpdate(low, {.lr = {0.1}}); }, ErrorCode::unsupported,
                          "ranks share the optimizer's states out (shard_states); call keep_low_copy without");
    Model third;
    AdamW deferring(third.groups, {});
    deferring.defer_rows("a");
    testing::expect_usage_error([&] { deferring.shard_states(borrowed(group)); }, "leave defer_rows out");
  });
}

}  // namespace
}  // namespace sinter::optim
