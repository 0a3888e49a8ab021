// A run that updates rows of the word table when they are read writes the files of one that updates all in every step.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/log.h"
#include "optim/adamw.h"
#include "optim/groups.h"
#include "optim/sgd.h"
#include "tests/core/other_devices.h"
#include "tests/train/trainer_fixture.h"

namespace sinter::train {
namespace {

/// Calls functions in events; claims not to look inside steps.
class Spy final : public TrainerCallback {
 public:
  using Call = std::function<void(CallbackContext&)>;
  Call step_begin, step_end, epoch_end, log;

  void on_step_begin(CallbackContext& run) override { call(step_begin, run); }
  void on_step_end(CallbackContext& run) override { call(step_end, run); }
  void on_epoch_end(CallbackContext& run) override { call(epoch_end, run); }
  void on_log(CallbackContext& run) override { call(log, run); }
  bool looks_inside_steps() const override { return false; }

 private:
  static void call(const Call& function, CallbackContext& run) {
    if (function) function(run);
  }
};

class DeferredEmbedding : public TrainerFixture {
 protected:
  void TearDown() override {
    set_log_sink({});
    TrainerFixture::TearDown();
  }

  /// With evaluations and checkpoints in between.
  TrainingArguments arguments_of(const std::string& name, bool deferred) const {
    TrainingArguments args = arguments(name);
    args.deferred_embedding_update = deferred;
    args.eval_strategy = "steps";
    args.eval_steps = 3;
    args.logging_steps = 1;
    return args;
  }

  /// Whether a training of these parts updated rows late.
  bool defers(Trainer::Parts made, bool frozen = false) {
    if (frozen) word_table(*made.model).set_requires_grad(false);
    made.args.overwrite_output_dir = true;
    made.args.max_steps = 1;
    made.args.eval_strategy = "no";
    bool deferred = false;
    const auto spy = std::make_shared<Spy>();
    spy->step_end = [&](CallbackContext& run) {
      deferred = run.optimizer->parameters().tracked_rows() != nullptr;
    };
    made.callbacks.push_back(spy);
    Trainer(made).train();
    return deferred;
  }

  static Tensor word_table(nn::Module& m) {
    return dynamic_cast<nn::BertForSequenceClassification&>(m).bert.embeddings.word_embeddings.weight;
  }
  static std::vector<float> table_of(nn::Module& m) { return word_table(m).to_vector<float>(); }

  /// Every file with weights or optimizer state below the folders of two runs.
  void expect_same_files(const std::string& a, const std::string& b) const {
    int compared = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_ / a)) {
      if (entry.path().extension() != ".safetensors") continue;
      const std::filesystem::path other = folder_ / b / std::filesystem::relative(entry.path(), folder_ / a);
      ASSERT_TRUE(std::filesystem::exists(other)) << other;
      EXPECT_TRUE(bytes(entry.path()) == bytes(other)) << entry.path();
      ++compared;
    }
    EXPECT_GE(compared, 4);
  }

  std::vector<double> logged(const Trainer& trainer, const char* what) const {
    std::vector<double> found;
    for (const Json& entry : trainer.state().log_history)
      if (entry.find(what) != nullptr) found.push_back(entry.get<double>(what));
    return found;
  }
};

TEST_F(DeferredEmbedding, WritesTheFilesOfTheDenseRun) {
  std::vector<double> losses[2], evaluations[2], norms[2];
  for (const bool deferred : {false, true}) {
    Trainer trainer(parts(model(), arguments_of(deferred ? "deferred" : "dense", deferred)));
    trainer.train();
    trainer.save_model();
    losses[deferred] = logged(trainer, "loss");
    norms[deferred] = logged(trainer, "grad_norm");
    evaluations[deferred] = logged(trainer, "eval_loss");
  }
  expect_same_files("dense", "deferred");
  EXPECT_EQ(losses[0].size(), 12u);
  EXPECT_EQ(losses[0], losses[1]);
  EXPECT_EQ(norms[0], norms[1]);
  EXPECT_EQ(evaluations[0].size(), 4u);
  EXPECT_EQ(evaluations[0], evaluations[1]);
  EXPECT_TRUE(defers(parts(model(), arguments_of("run", true))));
  EXPECT_FALSE(defers(parts(model(), arguments_of("run", false))));
}

TEST_F(DeferredEmbedding, AResumedRunWritesThemToo) {
  Trainer dense(parts(model(), arguments_of("dense", false)));
  dense.train();
  Trainer whole(parts(model(), arguments_of("resumed", true)));
  whole.train();
  std::filesystem::remove_all(folder_ / "resumed" / "checkpoint-12");
  std::filesystem::remove_all(folder_ / "resumed" / "checkpoint-8");
  const Bert other = model(0.1, 99);
  Trainer resumed(parts(other, arguments_of("resumed", true)));
  resumed.train((folder_ / "resumed" / "checkpoint-4").string());
  expect_same_files("dense", "resumed");
}

/// Makes the loss of updates 4 and 5 NaN, and puts the weight back.
std::shared_ptr<Spy> breaks_two_updates() {
  const auto spy = std::make_shared<Spy>();
  const auto saved = std::make_shared<Tensor>();
  const auto bias = [](CallbackContext& run) {
    return dynamic_cast<nn::BertForSequenceClassification&>(run.model).classifier.bias;
  };
  spy->step_begin = [=](CallbackContext& run) {
    if (run.state.global_step != 3 && run.state.global_step != 4) return;
    const NoGradGuard guard;
    *saved = bias(run).detach().clone();
    bias(run).fill_(std::numeric_limits<double>::quiet_NaN());
  };
  spy->step_end = [=](CallbackContext& run) {
    if (!saved->defined()) return;
    const NoGradGuard guard;
    bias(run).copy_(*saved);
    *saved = {};
  };
  return spy;
}

// Condition 3: an update whose gradient is not finite is none, for waiting rows neither.
TEST_F(DeferredEmbedding, SkippedUpdatesAreNone) {
  for (const bool deferred : {false, true}) {
    TrainingArguments args = arguments_of(deferred ? "deferred" : "dense", deferred);
    args.logging_nan_inf_filter = true;
    args.eval_strategy = "no";
    Trainer::Parts made = parts(model(), args);
    made.callbacks.push_back(breaks_two_updates());
    Trainer trainer(made);
    trainer.train();
    trainer.save_model();
    EXPECT_EQ(trainer.state().nonfinite_steps, 2);
  }
  expect_same_files("dense", "deferred");
}

// Condition 5: a run that ends with an error leaves the weights of its last update.
TEST_F(DeferredEmbedding, ARunThatFailsLeavesItsWeightsUpToDate) {
  std::vector<float> tables[2];
  for (const bool deferred : {false, true}) {
    TrainingArguments args = arguments_of(deferred ? "deferred" : "dense", deferred);
    args.eval_strategy = "no";
    args.save_strategy = "no";
    const Bert trained = model();
    Trainer::Parts made = parts(trained, args);
    made.callbacks.push_back(breaks_two_updates());
    Trainer trainer(made);
    EXPECT_THROW(trainer.train(), Error);
    tables[deferred] = table_of(*trained);
  }
  expect_same_bits(tables[1], tables[0]);
}

// Condition 5: events outside of updates see the weights of the dense run, and so does a callback that comes while the
// run is under way and looks inside.
TEST_F(DeferredEmbedding, CallbacksSeeTheWeightsOfTheDenseRun) {
  std::vector<std::vector<float>> seen[2];
  for (const bool deferred : {false, true}) {
    TrainingArguments args = arguments_of(deferred ? "deferred" : "dense", deferred);
    args.logging_steps = 3;
    args.eval_strategy = "no";
    Trainer::Parts made = parts(model(), args);
    const auto spy = std::make_shared<Spy>();
    Trainer* running = nullptr;
    const auto look = [&](CallbackContext& run) {
      seen[deferred].push_back(table_of(run.model));
      for (const auto& [name, state] : run.optimizer->state_tensors())
        if (name.find("word_embeddings") != std::string::npos) seen[deferred].push_back(state.to_vector<float>());
    };
    const auto table_alone = [&](CallbackContext& run) { seen[deferred].push_back(table_of(run.model)); };
    spy->epoch_end = look;
    spy->log = table_alone;
    spy->step_end = [&](CallbackContext& run) {
      if (run.state.global_step == 7) running->callbacks().add(std::make_shared<AtStepEnd>(table_alone));
      EXPECT_EQ(run.optimizer->parameters().tracked_rows() != nullptr, deferred);
    };
    made.callbacks.push_back(spy);
    Trainer trainer(made);
    running = &trainer;
    trainer.train();
    trainer.save_model();
  }
  ASSERT_EQ(seen[0].size(), seen[1].size());
  EXPECT_GE(seen[0].size(), 2u * 3 + 4 + 5);
  for (std::size_t i = 0; i < seen[0].size(); ++i) expect_same_bits(seen[1][i], seen[0][i]);
  expect_same_files("dense", "deferred");
}

TEST_F(DeferredEmbedding, ALookInsideUpdatesEveryRowInEveryStep) {
  std::vector<std::string> said;
  set_log_sink([&](const std::string& sentence) { said.push_back(sentence); });
  const auto mentions = [&](const std::string& words) {
    return std::count_if(said.begin(), said.end(),
                         [&](const std::string& sentence) { return sentence.find(words) != std::string::npos; });
  };
  Trainer::Parts made = parts(model(), arguments_of("run", true));
  made.callbacks.push_back(std::make_shared<AtStepEnd>([](CallbackContext&) {}));
  EXPECT_FALSE(defers(made));
  EXPECT_EQ(mentions("a callback may look at the weights inside of updates, so every row of "
                     "bert.embeddings.word_embeddings.weight is updated in each"),
            1);
  const Bert hooked = model();
  hooked->bert.encoder.register_forward_hook([](nn::Module&, Inputs, const Tensor&) { return Tensor(); });
  EXPECT_FALSE(defers(parts(hooked, arguments_of("run", true))));
  const Bert watched = model();
  word_table(*watched).register_hook([](const Tensor& gradient) { return gradient; });
  EXPECT_FALSE(defers(parts(watched, arguments_of("run", true))));
  EXPECT_EQ(mentions("a hook may look at the weights inside of updates"), 2);
  said.clear();
  EXPECT_TRUE(defers(parts(model(), arguments_of("run", true))));
  EXPECT_EQ(mentions("looks inside") + mentions("may look"), 0);
}

TEST_F(DeferredEmbedding, OtherRunsAreDense) {
  const TrainingArguments args = arguments_of("run", true);
  EXPECT_FALSE(defers(parts(model(), args), /*frozen=*/true));
  TrainingArguments sgd = args;
  sgd.optim = "sgd";
  EXPECT_FALSE(defers(parts(model(), sgd)));
  Trainer::Parts own = parts(model(), args);
  own.optimizers.optimizer =
      std::make_shared<optim::AdamW>(optim::decay_groups(own.model->named_parameters(), 0.01), optim::AdamWOptions{});
  EXPECT_FALSE(defers(own));
  Trainer::Parts own_loss = parts(model(), args);
  own_loss.compute_loss = [](nn::Module& m, const LossInputs& inputs) { return classification_loss(m, inputs, 0); };
  EXPECT_FALSE(defers(own_loss));
}

class DeferredEmbeddingOn : public DeferredEmbedding, public ::testing::WithParamInterface<Device> {
 protected:
  void SetUp() override {
    DeferredEmbedding::SetUp();
    if (const std::string why = testing::why_not_on(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }
};

SINTER_ON_OTHER_DEVICES(DeferredEmbeddingOn);

TEST_P(DeferredEmbeddingOn, WritesTheFilesOfTheDenseRun) {
  for (const bool fp16 : {false, true}) {
    const std::string kind = fp16 ? "-fp16" : "";
    for (const bool deferred : {false, true}) {
      TrainingArguments args = arguments_of((deferred ? "deferred" : "dense") + kind, deferred);
      args.use_cpu = false;
      args.device = GetParam().str();
      args.fp16 = fp16;
      args.per_device_train_batch_size = 4;
      args.max_steps = 6;
      args.save_steps = 3;
      args.eval_strategy = "no";
      auto tiny = std::make_shared<nn::BertForSequenceClassification>(
          nn::BertConfig{.vocab_size = tokenizer().vocab_size(), .hidden_size = 32, .num_hidden_layers = 1,
                         .num_attention_heads = 1, .intermediate_size = 64, .max_position_embeddings = 64});
      nn::init_weights(*tiny, 0.05, 7);
      Trainer trainer(parts(tiny, args));
      trainer.train();
      trainer.save_model();
    }
    expect_same_files("dense" + kind, "deferred" + kind);
  }
}

}  // namespace
}  // namespace sinter::train
