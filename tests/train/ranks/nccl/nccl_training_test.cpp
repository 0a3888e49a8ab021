// Ranks with an emulated device each, connected by the pretended NCCL, train what one process trains.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/train/ranks/nccl/pretended_library.h"
#include "tests/train/ranks/nccl_cases.h"
#include "tests/train/trainer_fixture.h"

namespace sinter::train {
namespace {

class NcclTraining : public TrainerFixture {
 protected:
  struct Outcome {
    std::vector<float> weights;
    double loss = 0, eval_loss = 0;
  };

  Outcome run(const std::string& name, Device device, int accumulation, std::shared_ptr<ProcessGroup> group) const {
    TrainingArguments args = arguments(name);
    args.use_cpu = false;
    args.device = device.str();
    args.gradient_accumulation_steps = accumulation;
    args.max_steps = 3;   // of which the last has samples for some ranks only
    args.num_train_epochs = 3;
    args.save_strategy = "no";
    const Bert trained = model();
    Trainer::Parts all = parts(trained, args);
    all.train_dataset = dataset(36);
    all.eval_dataset = dataset(20);
    all.process_group = std::move(group);
    Trainer trainer(std::move(all));
    Outcome outcome;
    outcome.loss = trainer.train().training_loss;
    outcome.eval_loss = trainer.evaluate().at("eval_loss");
    trained->to(Device::cpu());
    outcome.weights = weights(*trained);
    return outcome;
  }
};

TEST_F(NcclTraining, TwoRanksEqualOneThatAccumulates) {
  const Outcome one = run("one", Device::simt(), 2, nullptr);
  std::vector<Outcome> ranks(2);
  testing::run_on_devices(*testing::pretended_library().functions, {Device::simt(0), Device::simt(1)},
                          [&](NcclGroup& group) {
                            const std::shared_ptr<ProcessGroup> borrowed(&group, [](ProcessGroup*) {});
                            ranks[static_cast<std::size_t>(group.rank())] =
                                run("ranks", group.device(), 1, borrowed);
                          });
  for (const Outcome& rank : ranks) {
    expect_same_bits(rank.weights, one.weights);   // a sum of two has one order only
    EXPECT_EQ(rank.loss, one.loss);
    EXPECT_EQ(rank.eval_loss, one.eval_loss);
  }
}

TEST_F(NcclTraining, FourRanksAgree) {
  std::vector<Outcome> ranks(4);
  testing::run_on_devices(*testing::pretended_library().functions,
                          {Device::simt(0), Device::simt(1), Device::simt(2), Device::simt(3)}, [&](NcclGroup& group) {
                            const std::shared_ptr<ProcessGroup> borrowed(&group, [](ProcessGroup*) {});
                            ranks[static_cast<std::size_t>(group.rank())] =
                                run("four", group.device(), 1, borrowed);
                          });
  for (const Outcome& rank : ranks) {
    expect_same_bits(rank.weights, ranks[0].weights);
    EXPECT_EQ(rank.loss, ranks[0].loss);
    EXPECT_EQ(rank.eval_loss, ranks[0].eval_loss);
  }
}

}  // namespace
}  // namespace sinter::train
