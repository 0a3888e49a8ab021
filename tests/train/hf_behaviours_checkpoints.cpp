// Checkpoints and resuming, by the numbers of reference/hf_trainer.md section 6.
#include <algorithm>

#include "core/io/json.h"
#include "core/log.h"
#include "tests/core/expect_error.h"
#include "tests/train/regression.h"
#include "train/checkpoint.h"

namespace sinter::train {
namespace {

/// The messages of log_info while it lives.
class Messages {
 public:
  Messages() {
    set_log_sink([this](const std::string& sentence) { text_ += sentence + "\n"; });
  }
  ~Messages() { set_log_sink({}); }
  Messages(const Messages&) = delete;
  Messages& operator=(const Messages&) = delete;
  bool contain(const std::string& part) const { return text_.find(part) != std::string::npos; }

 private:
  std::string text_;
};

/// trainer_state.json without what time and folders decide.
Json comparable(const Json& state) {
  Json kept = Json::object();
  for (const auto& [key, value] : state.items())
    if (key != "log_history" && key != "best_model_checkpoint" && key != "save_steps") kept.set(key, value);
  Json history = Json::array();
  for (const Json& entry : state.at("log_history").elements()) {
    Json without = Json::object();
    for (const auto& [key, value] : entry.items())
      if (!key.ends_with("runtime") && !key.ends_with("per_second")) without.set(key, value);
    history.push_back(without);
  }
  kept.set("log_history", history);
  return kept;
}

TEST_F(HfBehaviour, N16_FilesOfACheckpoint) {
  TrainingArguments args = arguments("run");
  args.save_steps = 5;
  Trainer(parts(model(), args)).train();
  for (const std::int64_t step : {5, 10, 12})
    for (const char* file : {"config.json", "model.safetensors", "vocab.txt", "tokenizer.json", "tokenizer_config.json",
                             "special_tokens_map.json", "optimizer.safetensors", "trainer_state.json",
                             "training_args.json", "sinter_state.json"})
      EXPECT_TRUE(std::filesystem::exists(checkpoint_folder(args.output_dir, step) / file)) << step << file;
  const Json state = Json::load(checkpoint_folder(args.output_dir, 5) / "trainer_state.json");
  std::string keys;
  for (const auto& [key, value] : state.items()) keys += key + " ";
  EXPECT_EQ(keys,
            "best_global_step best_metric best_model_checkpoint epoch eval_steps global_step "
            "is_hyper_param_search is_local_process_zero is_world_process_zero log_history logging_steps max_steps "
            "num_input_tokens_seen num_train_epochs save_steps stateful_callbacks total_flos train_batch_size "
            "trial_name trial_params ");
}

TEST_F(HfBehaviour, N16_ModelAlone) {
  TrainingArguments args = arguments("run");
  args.save_only_model = true;
  args.max_steps = 4;
  Trainer(parts(model(), args)).train();
  const std::filesystem::path checkpoint = checkpoint_folder(args.output_dir, 4);
  EXPECT_TRUE(std::filesystem::exists(checkpoint / "model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(checkpoint / "optimizer.safetensors"));
  testing::expect_usage_error([&] { Trainer(parts(model(), args)).train("true"); },
                              "it was saved with save_only_model, and holds no optimizer to go on with");
}

// A stochastic model, accumulation, evaluations, a best model, early stopping: from every checkpoint on, the run ends
// in the bits and the log of the one that never stopped.
TEST_F(HfBehaviour, N17_N18_N19_ResumedEqualsNeverStopped) {
  for (const char* strategy : {"steps", "epoch"}) {
    TrainingArguments args = arguments(std::string("whole-") + strategy);
    args.eval_strategy = strategy;
    args.save_strategy = "steps";
    args.save_steps = 1;
    args.eval_steps = 3;
    args.logging_steps = 5;
    args.metric_for_best_model = "accuracy";
    const auto run = [&](const TrainingArguments& these, const Bert& m, const std::optional<std::string>& from) {
      Trainer::Parts all = parts(m, these);
      all.callbacks = {std::make_shared<EarlyStoppingCallback>(9)};
      Trainer trainer(std::move(all));
      trainer.train(from);
      return comparable(trainer.state().to_hf_json());
    };
    const Bert whole = model();
    const Json expected = run(args, whole, std::nullopt);
    const std::filesystem::path last = checkpoint_folder(args.output_dir, 12);
    for (const std::int64_t step : {1, 6, 7, 12}) {  // 6 and 12 lie before what follows an epoch
      TrainingArguments again = args;
      again.save_steps = 12;
      again.output_dir = (folder_ / (strategy + std::to_string(step))).string();
      const Bert resumed = model(0.1, 99);  // whatever it holds, the checkpoint decides
      const Json found = run(again, resumed, checkpoint_folder(args.output_dir, step).string());
      EXPECT_EQ(found.dump({.sort_keys = true}), expected.dump({.sort_keys = true})) << strategy << " from " << step;
      expect_same_bits(weights(*resumed), weights(*whole));
      if (step == 12) continue;
      EXPECT_EQ(bytes(checkpoint_folder(again.output_dir, 12) / "optimizer.safetensors"),
                bytes(last / "optimizer.safetensors"));
    }
  }
}

TEST_F(HfBehaviour, N18_AFrozenParameterStaysFrozen) {
  TrainingArguments args = arguments("run");
  args.save_steps = 5;
  const auto frozen = [&] {
    const Bert m = model();
    m->bert.embeddings.word_embeddings.weight.set_requires_grad(false);
    return m;
  };
  const Bert whole = frozen();
  const std::vector<float> before = whole->bert.embeddings.word_embeddings.weight.to_vector<float>();
  Trainer(parts(whole, args)).train();
  const Bert resumed = frozen();
  Trainer(parts(resumed, args)).train(checkpoint_folder(args.output_dir, 5).string());
  expect_same_bits(weights(*resumed), weights(*whole));
  expect_same_bits(resumed->bert.embeddings.word_embeddings.weight.to_vector<float>(), before);
}

TEST_F(HfBehaviour, N18_MomentumAndPlateauSurviveAResume) {
  TrainingArguments args = regression_arguments();
  args.optim = "sgd";
  args.optim_args = "momentum=0.9";
  args.learning_rate = 0.01;
  args.lr_scheduler_type = "reduce_lr_on_plateau";
  args.lr_scheduler_kwargs = Json::object({{"patience", 1}, {"threshold", 1.0}});
  args.eval_strategy = args.save_strategy = "steps";
  args.eval_steps = 2;
  args.save_steps = 7;
  const auto whole = std::make_shared<Regression>(), resumed = std::make_shared<Regression>(5);
  Trainer first(regression_parts(whole, args));
  first.train();
  Trainer second(regression_parts(resumed, args));
  second.train(checkpoint_folder(args.output_dir, 7).string());
  EXPECT_EQ(weights(*resumed), weights(*whole));
  EXPECT_EQ(logged(second.state(), "learning_rate"), logged(first.state(), "learning_rate"));
}

TEST_F(HfBehaviour, N20_TheOrderOfTheDataGoesOn) {
  std::vector<std::vector<std::int64_t>> orders;
  const auto run = [&](const TrainingArguments& args, const std::optional<std::string>& from) {
    std::vector<std::int64_t> order;
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
    parts.compute_loss = [&](nn::Module& module, const LossInputs& inputs) {
      order.insert(order.end(), inputs.rows.begin(), inputs.rows.end());
      return regression_loss(module, inputs);
    };
    Trainer(std::move(parts)).train(from);
    return order;
  };
  TrainingArguments args = regression_arguments();
  args.save_strategy = "steps";
  args.save_steps = 5;
  const std::vector<std::int64_t> whole = run(args, std::nullopt);
  for (const std::int64_t step : {5, 15}) {
    const auto rest = run(args, checkpoint_folder(args.output_dir, step).string());
    EXPECT_EQ(rest, std::vector(whole.begin() + 8 * step, whole.end()));
  }
  args.ignore_data_skip = true;  // the second epoch from its first sample on, up to max_steps
  const auto anew = run(args, checkpoint_folder(args.output_dir, 15).string());
  EXPECT_EQ(std::vector(anew.begin(), anew.begin() + 64), std::vector(whole.begin() + 64, whole.begin() + 128));
  EXPECT_EQ(anew.size(), 9u * 8);
}

TEST_F(HfBehaviour, N21_InterruptedInAnEpochWithAccumulation) {
  TrainingArguments args = regression_arguments();
  args.per_device_train_batch_size = 2;
  args.gradient_accumulation_steps = 3;
  args.num_train_epochs = 1;
  args.save_strategy = "steps";
  args.save_steps = 1;
  const auto run = [&](std::int64_t stop, const std::optional<std::string>& from) {
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
    parts.train_dataset = points(100);
    parts.callbacks = {std::make_shared<AtStepEnd>([=](CallbackContext& at) {
      if (at.state.global_step == stop + 1) fail(ErrorCode::io, "the machine goes down");
    })};
    return Trainer(std::move(parts)).train(from).global_step;
  };
  EXPECT_THROW(run(2, std::nullopt), Error);
  EXPECT_EQ(run(100, "true"), 17);
  EXPECT_TRUE(std::filesystem::exists(checkpoint_folder(args.output_dir, 17)));
}

TEST_F(HfBehaviour, N22_WhereThereIsNoCheckpoint) {
  const auto train = [&](const std::string& from) {
    return Trainer(regression_parts(std::make_shared<Regression>(), regression_arguments())).train(from).global_step;
  };
  testing::expect_error([&] { train((folder_ / "nowhere").string()); }, ErrorCode::not_found,
                        "Can't find a valid checkpoint at");
  std::filesystem::remove_all(folder_);
  testing::expect_error([&] { train("true"); }, ErrorCode::not_found, "No valid checkpoint found in output directory");
  EXPECT_EQ(train("false"), 24);
}

// Not HF's: one command for the first start and for those after a failure.
TEST_F(HfBehaviour, N22_AutoGoesOnWhereThereIsACheckpoint) {
  TrainingArguments args = regression_arguments();
  args.save_strategy = "steps";
  args.save_steps = 5;
  std::int64_t updates = 0;
  const auto train = [&](std::int64_t fails_at) {
    Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
    parts.callbacks = {std::make_shared<AtStepEnd>([&, fails_at](CallbackContext& at) {
      ++updates;
      if (at.state.global_step == fails_at) fail(ErrorCode::io, "the machine goes down");
    })};
    return Trainer(std::move(parts)).train("auto").global_step;
  };
  EXPECT_THROW(train(3), Error);    // before the first checkpoint
  EXPECT_THROW(train(12), Error);   // from the beginning
  EXPECT_EQ(train(-1), 24);         // from step 10
  EXPECT_EQ(updates, 3 + 12 + 14);
  std::filesystem::remove_all(folder_);
  std::filesystem::create_directories(std::filesystem::path(args.output_dir) / "somebody's");
  testing::expect_usage_error([&] { train(-1); }, "is not empty");
}

TEST_F(HfBehaviour, N23_AChangedBatchSizeGoesOnAtTheSameSample) {
  TrainingArguments args = regression_arguments();
  args.num_train_epochs = 2;
  args.save_strategy = "steps";
  Trainer(regression_parts(std::make_shared<Regression>(), args)).train();
  args.per_device_train_batch_size = 4;
  args.save_steps = 7;
  args.logging_steps = 3;
  std::int64_t seen = 0;
  Trainer::Parts parts = regression_parts(std::make_shared<Regression>(), args);
  parts.compute_loss = [&](nn::Module& module, const LossInputs& inputs) {
    seen += inputs.batch.sample_count;
    return regression_loss(module, inputs);
  };
  const Messages messages;
  Trainer trainer(std::move(parts));
  trainer.train(checkpoint_folder(args.output_dir, 5).string());  // 40 of 128 samples are done
  EXPECT_EQ(seen, 88);
  EXPECT_EQ(trainer.state().global_step, 5 + 22);
  EXPECT_EQ(trainer.state().max_steps, 5 + 22);
  EXPECT_EQ(trainer.state().train_batch_size, 4);
  EXPECT_EQ(trainer.state().epoch, 2);
  for (const char* part : {"resuming with per_device_train_batch_size = 4; the checkpoint's run had 8",
                           "resuming with save_steps = 7.0; the checkpoint's run had 5.0",
                           "resuming with logging_steps = 3.0; the checkpoint's run had 5.0"})
    EXPECT_TRUE(messages.contain(part)) << part;
}

TEST_F(HfBehaviour, N24_ABatchSizeThatFits) {
  TrainingArguments args = regression_arguments();
  args.per_device_train_batch_size = 16;
  args.auto_find_batch_size = true;
  args.num_train_epochs = 1;
  args.save_strategy = "steps";
  args.save_steps = 2;
  const auto parts_with_limit = [&](const std::shared_ptr<Regression>& m) {
    Trainer::Parts parts = regression_parts(m, args);
    parts.callbacks = {std::make_shared<AtStepEnd>([](CallbackContext& run) {
      if (run.state.global_step == 2 && run.state.train_batch_size > 14)
        fail(ErrorCode::out_of_memory, "the device is full");
    })};
    return parts;
  };
  const auto m = std::make_shared<Regression>();
  Trainer trainer(parts_with_limit(m));
  EXPECT_EQ(trainer.train().global_step, 5);
  EXPECT_EQ(trainer.state().train_batch_size, 14);
  TrainingArguments direct = args;
  direct.output_dir = (folder_ / "direct").string();
  direct.per_device_train_batch_size = 14;
  direct.auto_find_batch_size = false;
  const auto other = std::make_shared<Regression>();
  Trainer(regression_parts(other, direct)).train();
  EXPECT_EQ(weights(*m), weights(*other));  // it started again from the first weights
  Trainer resumed(parts_with_limit(std::make_shared<Regression>()));
  resumed.train(checkpoint_folder(args.output_dir, 2).string());
  EXPECT_EQ(resumed.state().train_batch_size, 14);
  EXPECT_EQ(resumed.state().global_step, 5);
}

}  // namespace
}  // namespace sinter::train
