// Ranks with an emulated device each, connected by the pretended NCCL, train what one process trains.
#include <gtest/gtest.h>

#include <chrono>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/runtime/runtime.h"
#include "tests/core/expect_error.h"
#include "tests/train/ranks/nccl/pretended_library.h"
#include "tests/train/ranks/nccl_cases.h"
#include "tests/train/ranks/rank_training.h"
#include "tests/train/trainer_fixture.h"

namespace sinter::train {
namespace {

class NcclTraining : public TrainerFixture {
 protected:
  struct Outcome {
    std::vector<float> weights;
    double loss = 0, eval_loss = 0;
  };

  struct Way {
    int accumulation = 1;
    bool own_collator = false, cuda_graphs = true;
    int zero_stage = 0;
    int looks_on_rank = -1;   // which has a callback that looks inside steps
  };

  Outcome run(const std::string& name, Device device, const Way& way,
              std::shared_ptr<ProcessGroup> group = nullptr) const {
    TrainingArguments args = arguments(name);
    args.use_cpu = false;
    args.device = device.str();
    args.gradient_accumulation_steps = way.accumulation;
    args.cuda_graphs = way.cuda_graphs;
    args.zero_stage = way.zero_stage;
    args.max_steps = 10;   // an epoch has 3, of which the last has samples for some ranks only
    args.num_train_epochs = 5;
    args.save_strategy = "no";
    const Bert trained = model();
    Trainer::Parts all = parts(trained, args);
    all.train_dataset = dataset(36);
    all.eval_dataset = dataset(20);
    if (way.own_collator)
      all.data_collator = [](const data::Dataset& from, std::span<const std::int64_t> rows, std::int64_t first) {
        return data::DataCollatorWithFlattening()(from, rows, first);
      };
    if (group != nullptr && group->rank() == way.looks_on_rank)
      all.callbacks.push_back(std::make_shared<AtStepEnd>([](CallbackContext&) {}));
    all.process_group = std::move(group);
    Trainer trainer(std::move(all));
    Outcome outcome;
    outcome.loss = trainer.train().training_loss;
    outcome.eval_loss = trainer.evaluate().at("eval_loss");
    trained->to(Device::cpu());
    outcome.weights = weights(*trained);
    return outcome;
  }

  std::vector<Outcome> run_ranks(const std::string& name, int count, const Way& way) const {
    std::vector<Outcome> ranks(static_cast<std::size_t>(count));
    std::vector<Device> devices;
    for (int rank = 0; rank < count; ++rank) devices.push_back(Device::simt(rank));
    testing::run_on_devices(*testing::pretended_library().functions, devices, [&](NcclGroup& group) {
      const std::shared_ptr<ProcessGroup> borrowed(&group, [](ProcessGroup*) {});
      ranks[static_cast<std::size_t>(group.rank())] = run(name, group.device(), way, borrowed);
    });
    return ranks;
  }

  template <class Result>
  struct Counted {
    Result result;
    int replayed;   // operations that were carried out without a call of NCCL
  };
  template <class Act>
  static auto counted(Act&& act) {
    const int called = testing::pretended().operations, carried_out = testing::pretended().ended;
    auto result = act();
    const int replayed =
        testing::pretended().ended - carried_out - (testing::pretended().operations - called);
    return Counted<decltype(result)>{std::move(result), replayed};
  }
};

// With the operations in captured steps (the epoch's last excepted, in which one rank has nothing), behind captured
// steps, in launched ones, and with the optimizer's states shared out.
TEST_F(NcclTraining, TwoRanksEqualOneThatAccumulates) {
  const Outcome one = run("one", Device::simt(), {.accumulation = 2});
  for (const Way& way : {Way{}, {.own_collator = true}, {.cuda_graphs = false}, {.zero_stage = 1}}) {
    const Counted<std::vector<Outcome>> ranks = counted([&] { return run_ranks("ranks", 2, way); });
    for (const Outcome& rank : ranks.result) {
      expect_same_bits(rank.weights, one.weights);   // a sum of two has one order only
      EXPECT_EQ(rank.loss, one.loss);
      EXPECT_EQ(rank.eval_loss, one.eval_loss);
    }
    EXPECT_EQ(ranks.replayed > 0, !way.own_collator && way.cuda_graphs);
  }
}

// The micro-batches before the last are captured by each rank alone, in sizes of its own.
TEST_F(NcclTraining, RanksThatAccumulate) {
  const std::vector<Outcome> launched = run_ranks("launched", 2, {.accumulation = 2, .cuda_graphs = false});
  const auto captured = counted([&] { return run_ranks("captured", 2, {.accumulation = 2}); });
  EXPECT_GT(captured.replayed, 0);
  for (const Outcome& rank : captured.result) {
    expect_same_bits(rank.weights, launched[0].weights);
    EXPECT_EQ(rank.loss, launched[0].loss);
  }
}

// One that looks inside its steps, as with a callback on rank 0 alone, takes the others along.
TEST_F(NcclTraining, OneGoesStepByStepAndAllDo) {
  const auto together = counted([&] { return run_ranks("together", 2, {}); });
  const auto looked = counted([&] { return run_ranks("looked", 2, {.looks_on_rank = 0}); });
  EXPECT_GT(together.replayed, 0);
  EXPECT_EQ(looked.replayed, 0);
  for (const Outcome& rank : looked.result) expect_same_bits(rank.weights, together.result[0].weights);
}

// Backward goes on between the operations of one replayed step.
TEST_F(NcclTraining, CapturedGradientsTravelBesideBackward) {
  testing::run_on_devices(*testing::pretended_library().functions, {Device::simt(0)}, [](NcclGroup& group) {
    testing::PretendedNccl& pretended = testing::pretended();
    std::vector<std::uint64_t> between;   // kernels between the first operation and the last
    for (const bool inside : {true, false}) {
      testing::RankTraining training(group, {});
      std::mt19937 random(5);
      const std::vector<data::CollatedBatch> batches = testing::batches_of_ranks(random, 1);
      for (std::uint32_t step = 0; step < 4; ++step) {
        pretended.launched_before_first = 0;
        training.run(batches, step, inside);
        Runtime::instance().synchronize(group.device());
      }
      EXPECT_TRUE(training.runner.histogram().front().captured);
      between.push_back(pretended.launched_before_last - pretended.launched_before_first);
    }
    EXPECT_GT(between[0], 20);
    EXPECT_EQ(between[1], 0);
  });
}

// The watch over operations holds for those of replayed steps, of which the host calls none.
TEST_F(NcclTraining, AReplayedStepThatDoesNotEndIsAborted) {
  const nccl::Functions& functions = *testing::pretended_library().functions;
  const nccl::UniqueId id = make_unique_id(functions);
  std::latch both_have_replayed(2), one_has_seen_it(1);
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < 2; ++rank)
    threads.emplace_back([&, rank] {
      const std::chrono::seconds timeout(rank == 0 ? 5 : 600);   // more than a step takes on a busy machine
      NcclGroup group(functions, id, rank, 2, Device::simt(rank), {.timeout = timeout});
      testing::RankTraining training(group, {});
      std::mt19937 random(5);
      const std::vector<data::CollatedBatch> batches = testing::batches_of_ranks(random, 2);
      for (std::uint32_t step = 0; step < 4; ++step) training.run(batches, step, true);
      group.barrier();
      EXPECT_TRUE(training.runner.histogram().front().captured);
      both_have_replayed.arrive_and_wait();
      if (rank == 1) return one_has_seen_it.wait(), group.abandon();
      const auto run_alone = [&] {
        training.run(batches, 4, true);
        group.barrier();
      };
      sinter::testing::expect_error(run_alone, ErrorCode::io,
                                    "what a captured step holds did not end on rank 0 within 5 s: another rank hangs");
      one_has_seen_it.count_down();
    });
}

TEST_F(NcclTraining, FourRanksAgree) {
  const std::vector<Outcome> ranks = run_ranks("four", 4, {});
  for (const Outcome& rank : ranks) {
    expect_same_bits(rank.weights, ranks[0].weights);
    EXPECT_EQ(rank.loss, ranks[0].loss);
    EXPECT_EQ(rank.eval_loss, ranks[0].eval_loss);
  }
}

}  // namespace
}  // namespace sinter::train
