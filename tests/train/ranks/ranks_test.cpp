// Ranks that train together give what one process gives.
#include <csignal>
#include <mutex>
#include <numeric>
#include <optional>

#include "core/process_group.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"
#include "tests/train/trainer_fixture.h"

namespace sinter::train {
namespace {

/// What a run ended with.
struct Outcome {
  std::vector<float> weights;
  TrainerState state;
  TrainOutput output;
  Metrics evaluation;
  std::vector<float> predictions;
};

std::vector<double> logged(const TrainerState& state, const std::string& key) {
  std::vector<double> values;
  for (const Json& entry : state.log_history)
    if (entry.find(key) != nullptr) values.push_back(entry.get<double>(key));
  return values;
}

/// As AtStepEnd, but does not look inside steps.
class OutsideSteps final : public TrainerCallback {
 public:
  explicit OutsideSteps(std::function<void(CallbackContext&)> call) : call_(std::move(call)) {}
  bool looks_inside_steps() const override { return false; }
  void on_step_end(CallbackContext& run) override { call_(run); }

 private:
  std::function<void(CallbackContext&)> call_;
};

class Ranks : public TrainerFixture {
 protected:
  /// 90 samples, 8 a rank: with 4 ranks the last of three updates has 26, which leave the last rank with 2; with 7 rows
  /// in an evaluation's batch, 13 batches do not divide by 2 or 4 either.
  TrainingArguments arguments_of(const std::string& name) const {
    TrainingArguments args = arguments(name);
    args.gradient_accumulation_steps = 1;
    args.logging_steps = 1;
    args.save_strategy = "no";
    args.eval_strategy = "epoch";
    args.per_device_eval_batch_size = 7;
    return args;
  }

  Outcome run(const TrainingArguments& args, std::shared_ptr<ProcessGroup> group = nullptr,
              const std::optional<std::string>& resume = std::nullopt,
              std::vector<std::shared_ptr<TrainerCallback>> callbacks = {}, std::uint64_t seed = 7) const {
    const Bert trained = model(0.1, seed);
    Trainer::Parts all = parts(trained, args);
    all.process_group = std::move(group);
    all.callbacks = std::move(callbacks);
    Trainer trainer(std::move(all));
    Outcome outcome;
    outcome.output = trainer.train(resume);
    outcome.state = trainer.state();
    outcome.weights = weights(*trained);
    outcome.evaluation = trainer.evaluate();
    outcome.predictions = trainer.predict(dataset()).predictions;
    return outcome;
  }

  /// The same by `ranks` threads, each with a model of its own; `change` makes a rank's arguments its own.
  std::vector<Outcome> run_ranks(int ranks, const TrainingArguments& args,
                                 const std::optional<std::string>& resume = std::nullopt,
                                 const std::function<void(int, TrainingArguments&)>& change = {}) const {
    std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
    LocalSim::run(ranks, [&](ProcessGroup& group) {
      TrainingArguments own = args;
      if (change) change(group.rank(), own);
      const std::shared_ptr<ProcessGroup> borrowed(&group, [](ProcessGroup*) {});
      // All but rank 0 begin with other weights, which they must not keep.
      outcomes[static_cast<std::size_t>(group.rank())] =
          run(own, borrowed, resume, {}, 7 + static_cast<std::uint64_t>(group.rank()));
    });
    return outcomes;
  }

  /// What train() gives on each rank when a signal comes to the last one in update number `step`, of which a callback
  /// of this kind hears.
  template <class Callback>
  std::vector<TrainOutput> run_signalled(int ranks, const TrainingArguments& args, std::int64_t step,
                                         const std::function<void(int, TrainingArguments&)>& change = {}) const {
    std::vector<TrainOutput> outputs(static_cast<std::size_t>(ranks));
    LocalSim::run(ranks, [&](ProcessGroup& group) {
      TrainingArguments own = args;
      if (change) change(group.rank(), own);
      Trainer::Parts all = parts(model(), own);
      all.process_group = std::shared_ptr<ProcessGroup>(&group, [](ProcessGroup*) {});
      if (group.rank() + 1 == ranks)
        all.callbacks.push_back(std::make_shared<Callback>([step](CallbackContext& context) {
          if (context.state.global_step == step) std::raise(SIGTERM);
        }));
      outputs[static_cast<std::size_t>(group.rank())] = Trainer(std::move(all)).train();
    });
    return outputs;
  }

  static void expect_same_metrics(const Metrics& found, const Metrics& expected) {
    for (const char* name : {"eval_loss", "eval_accuracy"}) EXPECT_EQ(found.at(name), expected.at(name)) << name;
  }
};

// The order of the sums is the same, so not one bit differs.
TEST_F(Ranks, EqualOneProcessThatAccumulatesTheirBatches) {
  for (const int ranks : {2, 3, 4}) {
    TrainingArguments args = arguments_of("one-" + std::to_string(ranks));
    args.gradient_accumulation_steps = ranks;
    const Outcome one = run(args);
    args.gradient_accumulation_steps = 1;
    args.output_dir = (folder_ / ("ranks-" + std::to_string(ranks))).string();
    for (const Outcome& rank : run_ranks(ranks, args)) {
      expect_same_bits(rank.weights, one.weights);
      EXPECT_EQ(logged(rank.state, "loss"), logged(one.state, "loss"));
      EXPECT_EQ(logged(rank.state, "eval_loss"), logged(one.state, "eval_loss"));
      EXPECT_EQ(rank.state.global_step, one.state.global_step);
      EXPECT_EQ(rank.state.num_input_tokens_seen, one.state.num_input_tokens_seen);
      EXPECT_EQ(rank.state.epoch, one.state.epoch);
      EXPECT_EQ(rank.output.training_loss, one.output.training_loss);
      expect_same_metrics(rank.evaluation, one.evaluation);
      expect_same_bits(rank.predictions, one.predictions);
    }
  }
}

// The same global batch in one piece adds up in another order.
TEST_F(Ranks, FollowOneProcessWithTheSameGlobalBatch) {
  TrainingArguments args = arguments_of("one");
  args.per_device_train_batch_size = 16;
  args.learning_rate = 1e-4;
  const std::vector<double> one = logged(run(args).state, "loss");
  for (const auto& [ranks, accumulation] : {std::pair{2, 1}, {4, 1}, {2, 2}}) {
    args.per_device_train_batch_size = 16 / ranks / accumulation;
    args.gradient_accumulation_steps = accumulation;
    args.output_dir = (folder_ / (std::to_string(ranks) + "x" + std::to_string(accumulation))).string();
    const std::vector<double> together = logged(run_ranks(ranks, args)[0].state, "loss");
    ASSERT_EQ(together.size(), one.size());
    for (std::size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(together[i], one[i], 1e-5) << ranks << " ranks, " << i;
  }
}

TEST_F(Ranks, ACheckpointGoesOnWithAnotherNumberOfRanks) {
  TrainingArguments args = arguments_of("whole");
  args.per_device_train_batch_size = 4;
  args.gradient_accumulation_steps = 4;
  args.eval_strategy = "no";
  const Outcome whole = run(args);
  args.output_dir = (folder_ / "parts").string();
  args.gradient_accumulation_steps = 2;
  args.save_strategy = "steps";
  args.save_steps = 4;
  run_ranks(2, args);
  for (const int ranks : {1, 4}) {
    TrainingArguments rest = args;
    rest.gradient_accumulation_steps = 4 / ranks;
    rest.output_dir = (folder_ / ("rest-" + std::to_string(ranks))).string();
    rest.save_strategy = "no";
    const Outcome resumed = run_ranks(ranks, rest, args.output_dir + "/checkpoint-4")[0];
    EXPECT_EQ(resumed.state.global_step, whole.state.global_step);
    const std::vector<double> found = logged(resumed.state, "loss"), expected = logged(whole.state, "loss");
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-5) << ranks << " ranks, " << i;
  }
}

// The optimizer's states are shared out: no bit of weights or files differs, and any number of ranks goes on.
TEST_F(Ranks, ZeroStageOneGivesTheSameBits) {
  for (const char* optim : {"adamw_torch", "sgd"}) {
    TrainingArguments args = arguments_of(std::string("whole-") + optim);
    args.optim = optim;
    if (args.optim == "sgd") args.optim_args = "momentum=0.9";
    args.save_strategy = "steps";
    args.save_steps = 4;
    const std::string whole_dir = args.output_dir;
    const Outcome whole = run_ranks(3, args)[0];
    args.zero_stage = 1;
    args.output_dir = (folder_ / (std::string("shared-") + optim)).string();
    for (const Outcome& rank : run_ranks(3, args)) {
      expect_same_bits(rank.weights, whole.weights);
      EXPECT_EQ(logged(rank.state, "loss"), logged(whole.state, "loss"));
    }
    for (const char* file : {"optimizer.safetensors", "model.safetensors"})
      EXPECT_EQ(bytes(std::filesystem::path(args.output_dir) / "checkpoint-4" / file),
                bytes(std::filesystem::path(whole_dir) / "checkpoint-4" / file));
    const std::string checkpoint = args.output_dir + "/checkpoint-4";
    args.save_strategy = "no";
    args.output_dir = (folder_ / (std::string("resumed-") + optim)).string();
    expect_same_bits(run_ranks(3, args, checkpoint)[2].weights, whole.weights);
    args.per_device_train_batch_size = 4;   // 6 ranks instead of 3
    args.output_dir = (folder_ / (std::string("more-") + optim)).string();
    const std::vector<double> found = logged(run_ranks(6, args, checkpoint)[0].state, "loss");
    const std::vector<double> expected = logged(whole.state, "loss");
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-5) << optim << " " << i;
  }
}

/// With feed-forward layers of more than 1 MiB, so that gradients have several buckets of that size.
std::shared_ptr<nn::BertForSequenceClassification> wide_model(std::int64_t vocab_size) {
  auto made = std::make_shared<nn::BertForSequenceClassification>(nn::BertConfig{.vocab_size = vocab_size,
                                                                                 .hidden_size = 64,
                                                                                 .num_hidden_layers = 2,
                                                                                 .num_attention_heads = 2,
                                                                                 .intermediate_size = 4096,
                                                                                 .max_position_embeddings = 64});
  nn::init_weights(*made, 0.05, 7);
  return made;
}

/// Weights after two updates of a rank, and how many operations it had asked for when backward came to the word table
/// in the second micro-batch of each.
std::pair<std::vector<float>, std::vector<std::size_t>> train_wide(Trainer::Parts parts, ProcessGroup& group) {
  const auto model = std::dynamic_pointer_cast<nn::BertForSequenceClassification>(parts.model);
  parts.process_group = std::shared_ptr<ProcessGroup>(&group, [](ProcessGroup*) {});
  if (!parts.args.use_cpu) model->to(Device::parse(parts.args.device));   // before the hook, which the move would lose
  std::vector<std::size_t> asked_before;
  std::optional<CollectiveTrace> trace;
  trace.emplace();
  int backwards = 0;
  model->bert.embeddings.word_embeddings.weight.register_hook([&](const Tensor&) {
    if (++backwards % 2 == 0) asked_before.push_back(trace->operations().size());
    trace.emplace();
    return Tensor();
  });
  Trainer(std::move(parts)).train();
  std::vector<float> weights;
  for (const Parameter& p : model->named_parameters()) {
    const std::vector<float> values = p.tensor.to(Device::cpu()).to_vector<float>();
    weights.insert(weights.end(), values.begin(), values.end());
  }
  return {weights, asked_before};
}

TEST_F(Ranks, GradientsAreAddedUpWhileBackwardGoesOn) {
  for (const Device device : {Device::cpu(), Device::simt()}) {
    if (const std::string why = testing::why_not_on(device); !why.empty()) GTEST_SKIP() << why;
    std::vector<std::vector<float>> weights;
    for (const std::int64_t cap : {0, 1}) {
      TrainingArguments args = arguments_of("cap-" + std::to_string(cap) + device.str());
      args.per_device_train_batch_size = 1;
      args.gradient_accumulation_steps = 2;
      args.max_steps = 2;
      args.eval_strategy = "no";
      args.ddp_bucket_cap_mb = cap;
      std::mutex mutex;
      LocalSim::run(2, [&](ProcessGroup& group) {
        TrainingArguments own = args;
        own.use_cpu = device.is_cpu();
        own.device = device.is_cpu() ? "" : Device::simt(group.rank()).str();
        const auto [found, asked_before] = train_wide(parts(wide_model(tokenizer().vocab_size()), own), group);
        const std::lock_guard lock(mutex);
        weights.push_back(found);
        ASSERT_EQ(asked_before.size(), 2u);
        for (const std::size_t asked : asked_before)
          if (cap == 0)
            EXPECT_EQ(asked, 0u);
          else
            EXPECT_GE(asked, 2u) << device.str();
      });
    }
    for (const std::vector<float>& others : weights) expect_same_bits(others, weights[0]);
  }
}

TEST_F(Ranks, FilesAreWrittenOnceAndByRankZero) {
  TrainingArguments args = arguments_of("files");
  args.save_strategy = "epoch";
  args.load_best_model_at_end = true;
  const std::vector<Outcome> outcomes = run_ranks(3, args);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "files" / "checkpoint-4"));
  for (const Outcome& rank : outcomes) {
    expect_same_bits(rank.weights, outcomes[0].weights);   // the best ones
    EXPECT_EQ(rank.state.best_model_checkpoint, outcomes[0].state.best_model_checkpoint);
  }
}

// A signal to one of them ends all at the same step, with a checkpoint.
TEST_F(Ranks, ASignalToOneStopsAllAtTheSameStep) {
  TrainingArguments args = arguments_of("stopped");
  args.eval_strategy = "no";
  for (const TrainOutput& output : run_signalled<AtStepEnd>(3, args, 3)) {
    EXPECT_EQ(output.stopped_by_signal, SIGTERM);
    EXPECT_EQ(output.global_step, 4);   // they agree in the update behind
  }
  EXPECT_TRUE(std::filesystem::exists(folder_ / "stopped" / "checkpoint-4"));
}

/// `args` on emulated devices, one for each rank.
void on_emulated_devices(int rank, TrainingArguments& own) {
  own.use_cpu = false;
  own.device = Device::simt(rank).str();
}

// Captured steps, steps that are launched kernel by kernel, and one process that accumulates: the same bits.
TEST_F(Ranks, CapturedStepsOfRanksEqualOneProcess) {
  if (const std::string why = testing::why_not_on(Device::simt(1)); !why.empty()) GTEST_SKIP() << why;
  TrainingArguments args = arguments_of("one");
  args.per_device_train_batch_size = 4;
  args.gradient_accumulation_steps = 2;
  args.logging_steps = 3;
  args.max_steps = 14;   // into the second epoch: the last update of the first leaves rank 1 with nothing
  args.num_train_epochs = 5;
  args.eval_strategy = "no";
  args.lr_scheduler_type = "constant";
  TrainingArguments alone = args;
  on_emulated_devices(0, alone);
  const Outcome one = run(alone);
  args.gradient_accumulation_steps = 1;
  for (const bool captured : {true, false}) {
    args.cuda_graphs = captured;
    args.output_dir = (folder_ / (captured ? "captured" : "launched")).string();
    for (const Outcome& rank : run_ranks(2, args, std::nullopt, on_emulated_devices)) {
      expect_same_bits(rank.weights, one.weights);
      EXPECT_EQ(logged(rank.state, "loss"), logged(one.state, "loss"));
      EXPECT_EQ(logged(rank.state, "grad_norm"), logged(one.state, "grad_norm"));
      EXPECT_EQ(rank.state.num_input_tokens_seen, one.state.num_input_tokens_seen);
      EXPECT_EQ(rank.state.total_flos, one.state.total_flos);
    }
  }
}

// Ranks whose steps are queued on a device hear of a signal when they log, evaluate or save.
TEST_F(Ranks, ASignalToOneStopsQueuedStepsTogether) {
  if (const std::string why = testing::why_not_on(Device::simt(1)); !why.empty()) GTEST_SKIP() << why;
  TrainingArguments args = arguments_of("queued");
  args.per_device_train_batch_size = 2;
  args.eval_strategy = "no";
  args.logging_steps = 4;
  for (const TrainOutput& output : run_signalled<OutsideSteps>(2, args, 5, on_emulated_devices)) {
    EXPECT_EQ(output.stopped_by_signal, SIGTERM);
    EXPECT_EQ(output.global_step, 8);
  }
  EXPECT_TRUE(std::filesystem::exists(folder_ / "queued" / "checkpoint-8"));
}

// The same where nothing would be logged or saved any more behind the signal.
TEST_F(Ranks, ASignalInTheLastQueuedStepsSavesACheckpoint) {
  if (const std::string why = testing::why_not_on(Device::simt(1)); !why.empty()) GTEST_SKIP() << why;
  TrainingArguments args = arguments_of("last");
  args.per_device_train_batch_size = 2;
  args.eval_strategy = "no";
  args.logging_steps = 500;
  args.max_steps = 6;
  for (const TrainOutput& output : run_signalled<OutsideSteps>(2, args, 3, on_emulated_devices))
    EXPECT_EQ(output.stopped_by_signal, SIGTERM);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "last" / "checkpoint-6"));
}

// With and without the optimizer's states shared out, on emulated devices and in f16: the steps are eager then.
TEST_F(Ranks, ZeroStageOneOnEmulatedDevices) {
  if (const std::string why = testing::why_not_on(Device::simt(1)); !why.empty()) GTEST_SKIP() << why;
  for (const bool fp16 : {false, true}) {
    std::vector<std::vector<float>> weights;
    for (const std::int64_t stage : {0, 1}) {
      TrainingArguments args = arguments_of((fp16 ? "f16-" : "f32-") + std::to_string(stage));
      args.per_device_train_batch_size = 4;
      args.max_steps = 5;
      args.eval_strategy = "no";
      args.zero_stage = stage;
      for (const Outcome& rank : run_ranks(2, args, std::nullopt, [&](int r, TrainingArguments& own) {
             on_emulated_devices(r, own);
             own.fp16 = fp16;
           }))
        weights.push_back(rank.weights);
    }
    for (const std::vector<float>& others : weights) expect_same_bits(others, weights[0]);
  }
}

// They would wait for each other for ever, or train on other data than the log says.
TEST_F(Ranks, NeedTheSameSeedsSizesAndData) {
  const auto refused = [&](const std::string& name, const std::string& words,
                           const std::function<void(TrainingArguments&)>& change) {
    testing::expect_usage_error(
        [&] {
          run_ranks(2, arguments_of(name), std::nullopt, [&](int rank, TrainingArguments& own) {
            if (rank == 1) change(own);
          });
        },
        words);
  };
  refused("seed", "rank 1 has data_seed 5, and rank 0 has 42; all ranks need the same arguments and train_dataset",
          [](TrainingArguments& own) { own.data_seed = 5; });
  refused("sizes", "rank 1 has per_device_train_batch_size 4, and rank 0 has 8",
          [](TrainingArguments& own) { own.per_device_train_batch_size = 4; });
  std::vector<std::int64_t> rows(90);
  std::iota(rows.begin(), rows.end(), 1);
  const data::Dataset other = dataset(91).select(rows);
  testing::expect_usage_error(
      [&] {
        LocalSim::run(2, [&](ProcessGroup& group) {
          Trainer::Parts all = parts(model(), arguments_of("data"));
          if (group.rank() == 1) all.train_dataset = other;
          all.process_group = std::shared_ptr<ProcessGroup>(&group, [](ProcessGroup*) {});
          Trainer(std::move(all)).train();
        });
      },
      "rank 1 has train_data_sha256");
  testing::expect_usage_error(
      [&] {
        LocalSim::run(2, [&](ProcessGroup& group) {
          Trainer::Parts all = parts(model(), arguments_of("evaluation"));
          all.process_group = std::shared_ptr<ProcessGroup>(&group, [](ProcessGroup*) {});
          (void)Trainer(std::move(all)).evaluate(group.rank() == 1 ? other : dataset(90));
        });
      },
      "rank 1 evaluates or predicts other samples than rank 0 (SHA-256 ");
}

// The one that rank 0 finds, wherever another would look.
TEST_F(Ranks, AllResumeFromTheCheckpointOfRankZero) {
  TrainingArguments args = arguments_of("0");
  args.max_steps = 6;
  args.eval_strategy = "no";
  args.save_strategy = "steps";
  args.save_steps = 3;
  const Outcome whole = run_ranks(2, args)[0];
  std::filesystem::remove_all(folder_ / "0" / "checkpoint-6");
  const auto apart = [&](int rank, TrainingArguments& own) {
    own.output_dir = (folder_ / std::to_string(rank)).string();
  };
  for (const Outcome& rank : run_ranks(2, args, "auto", apart)) expect_same_bits(rank.weights, whole.weights);
}

// Each rank on an emulated device of its own, in f32 and in f16.
TEST_F(Ranks, OnEmulatedDevicesFollowTheCpu) {
  if (const std::string why = testing::why_not_on(Device::simt(1)); !why.empty()) GTEST_SKIP() << why;
  TrainingArguments args = arguments_of("cpu");
  args.per_device_train_batch_size = 4;
  args.max_steps = 6;
  args.eval_strategy = "no";
  const std::vector<double> cpu = logged(run_ranks(2, args)[0].state, "loss");
  for (const bool fp16 : {false, true}) {
    args.output_dir = (folder_ / (fp16 ? "f16" : "f32")).string();
    const std::vector<Outcome> outcomes = run_ranks(2, args, std::nullopt, [&](int rank, TrainingArguments& own) {
      on_emulated_devices(rank, own);
      own.fp16 = fp16;
    });
    const std::vector<double> losses = logged(outcomes[0].state, "loss");
    expect_same_bits(outcomes[1].weights, outcomes[0].weights);
    ASSERT_EQ(losses.size(), cpu.size());
    for (std::size_t i = 0; i < cpu.size(); ++i) EXPECT_NEAR(losses[i], cpu[i], fp16 ? 2e-3 : 1e-5) << i;
  }
}

}  // namespace
}  // namespace sinter::train
