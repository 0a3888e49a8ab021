// The Trainer on another device follows the CPU.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>

#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/flat_parameters.h"
#include "core/io/files.h"
#include "core/io/staged_folder.h"
#include "core/log.h"
#include "core/runtime/runtime.h"
#include "tests/core/other_devices.h"
#include "tests/core/expect_error.h"
#include "tests/core/io/scratch_folder.h"
#include "tests/train/program.h"
#include "tests/train/trainer_fixture.h"
#include "train/tuned_gemm.h"

namespace sinter::train {
namespace {

constexpr std::int64_t kSteps = 50;

class DeviceTraining : public TrainerFixture, public ::testing::WithParamInterface<Device> {
 protected:
  void SetUp() override {
    TrainerFixture::SetUp();
    if (const std::string why = testing::why_not_on(GetParam()); !why.empty()) GTEST_SKIP() << why;
  }

  /// A BERT of one layer with dropout; about 60 tokens a step in arguments_on().
  static Bert tiny() {
    auto made = std::make_shared<nn::BertForSequenceClassification>(
        nn::BertConfig{.vocab_size = tokenizer().vocab_size(), .hidden_size = 64, .num_hidden_layers = 1,
                       .num_attention_heads = 2, .intermediate_size = 128, .max_position_embeddings = 64});
    nn::init_weights(*made, 0.05, 7);
    return made;
  }

  /// The losses of a run on the device and of the CPU's in f32, over 50 steps, differ by at most `allowed`.
  void expect_the_cpus_curve(const TrainingArguments& args, double allowed) const {
    const Bert on_cpu = tiny(), on_device = tiny();
    Trainer cpu(parts(on_cpu, arguments_on("cpu", kSteps))), device(parts(on_device, args));
    cpu.train();
    device.train();
    const std::vector<double> expected = logged(cpu, "loss"), found = logged(device, "loss");
    ASSERT_EQ(expected.size(), static_cast<std::size_t>(kSteps));
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], allowed) << "step " << i;
    EXPECT_NEAR(logged(device, "grad_norm")[0] / logged(cpu, "grad_norm")[0], 1, 8 * allowed);
    const auto [least, most] = std::minmax_element(expected.begin(), expected.end());
    EXPECT_GT(*most - *least, 10 * allowed);   // it is a curve
    const Tensor weight = on_device->named_parameters()[0].tensor;
    EXPECT_EQ(weight.device(), GetParam());
    EXPECT_EQ(weight.dtype(), Dtype::f32);
    EXPECT_NEAR(device.evaluate().at("eval_loss"), cpu.evaluate().at("eval_loss"), allowed);
  }

  TrainingArguments arguments_on(const std::string& device, std::int64_t steps) const {
    TrainingArguments args = arguments(device.substr(0, 4));
    args.use_cpu = false;
    args.device = device;
    args.per_device_train_batch_size = 4;
    args.gradient_accumulation_steps = 1;
    args.max_steps = steps;
    args.num_train_epochs = 3;
    args.logging_steps = 1;
    args.save_strategy = "no";
    return args;
  }

  /// "loss" or "grad_norm" of every step.
  static std::vector<double> logged(Trainer& trainer, const char* what) {
    std::vector<double> found;
    for (const Json& entry : trainer.state().log_history)
      if (entry.find(what) != nullptr) found.push_back(entry.get<double>(what));
    return found;
  }
};

SINTER_ON_OTHER_DEVICES(DeviceTraining);

// Sums are taken in another order, so losses near 0.7 differ by an ulp of f32 or two; the emulated device is allowed 32
// over the 50 steps (2 were seen). A GPU also fuses products into sums and has its own exp and erf, in every layer, and
// Adam's quotient m / sqrt(v) can turn a last bit of a gradient near 0 into 2 lr of a weight.
TEST_P(DeviceTraining, FollowsTheCpusLossCurve) {
  const bool emulated = GetParam().type() == DeviceType::simt;
  expect_the_cpus_curve(arguments_on(GetParam().str(), kSteps), emulated ? 32 * 0x1p-24 : 1e-3);
}

// Logits and whatever leads to them are rounded to 16 bits, so a loss near 0.7 may be off by a rounding or two of its
// own size (half of one was seen on the emulated device, in f16 and in bf16).
TEST_P(DeviceTraining, FollowsTheCpusLossCurveInF16) {
  TrainingArguments args = arguments_on(GetParam().str(), kSteps);
  args.fp16 = true;
  expect_the_cpus_curve(args, 2 * 0x1p-11);
}

TEST_P(DeviceTraining, FollowsTheCpusLossCurveInBf16) {
  TrainingArguments args = arguments_on(GetParam().str(), kSteps);
  args.bf16 = true;
  expect_the_cpus_curve(args, 2 * 0x1p-8);
}

// The same masks in the same order, 200 steps: both stay as close to f32's curve as in the first 50.
TEST_P(DeviceTraining, SixteenBitsFollowF32For200Steps) {
  TrainingArguments args = arguments_on(GetParam().str(), 200);
  args.per_device_train_batch_size = 2;
  const auto losses = [&](bool fp16, bool bf16) {
    args.fp16 = fp16;
    args.bf16 = bf16;
    Trainer trainer(parts(tiny(), args));
    trainer.train();
    return logged(trainer, "loss");
  };
  const std::vector<double> exact = losses(false, false), f16 = losses(true, false), bf16 = losses(false, true);
  ASSERT_EQ(exact.size(), 200u);
  ASSERT_EQ(f16.size(), exact.size());
  ASSERT_EQ(bf16.size(), exact.size());
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_NEAR(f16[i], exact[i], 2 * 0x1p-11) << "step " << i;
    EXPECT_NEAR(bf16[i], exact[i], 2 * 0x1p-8) << "step " << i;
  }
}

TEST_P(DeviceTraining, GraphsChangeNoBit) {
  for (const bool fp16 : {false, true}) {
    TrainingArguments args = arguments_on(GetParam().str(), 12);
    args.fp16 = fp16;
    args.gradient_accumulation_steps = 2;
    const auto run = [&](bool graphs) {
      args.cuda_graphs = graphs;
      const Bert model = tiny();
      Trainer trainer(parts(model, args));
      trainer.train();
      return std::pair(weights(*model), logged(trainer, "loss"));
    };
    EXPECT_EQ(run(true), run(false));
  }
}

/// Calls a function at the end of each update, and reads no weight there.
class Counting final : public TrainerCallback {
 public:
  explicit Counting(std::function<void(CallbackContext&)> call) : call_(std::move(call)) {}
  void on_step_end(CallbackContext& run) override { call_(run); }
  bool looks_inside_steps() const override { return false; }

 private:
  std::function<void(CallbackContext&)> call_;
};

// Between two logs the host waits for nothing, and once each size of batch has come twice nothing is allocated and no
// kernel is launched but in graphs.
TEST_P(DeviceTraining, TheHostWaitsWhenItLogsAlone) {
  TrainingArguments args = arguments_on(GetParam().str(), 60);
  args.logging_steps = 20;
  Runtime& runtime = Runtime::instance();
  std::vector<std::uint64_t> waits, launches, allocations;
  Trainer::Parts all = parts(tiny(), args);
  all.callbacks.push_back(std::make_shared<Counting>([&](CallbackContext&) {
    waits.push_back(runtime.counters(GetParam()).waits);
    launches.push_back(runtime.counters(GetParam()).launches);
    allocations.push_back(runtime.allocator(GetParam()).stats().device_allocations);
  }));
  Trainer(std::move(all)).train();
  ASSERT_EQ(waits.size(), 60u);
  for (std::size_t i = 1; i < waits.size(); ++i)   // step_end comes before the log of step 20, whose wait shows at 21
    EXPECT_EQ(waits[i] > waits[i - 1], i % 20 == 0) << "step " << i + 1;
  EXPECT_EQ(launches[59], launches[48]);   // at 46 an epoch ended, and late rows were updated for the callback
  EXPECT_EQ(allocations[59], allocations[48]);
}

// Also where the host is far ahead of the device: a run has ended when its work has.
TEST_P(DeviceTraining, TheRuntimeIsTheDevicesAndNotTheHosts) {
  Trainer trainer(parts(tiny(), arguments_on(GetParam().str(), 20)));
  const auto begin = std::chrono::steady_clock::now();
  const TrainOutput output = trainer.train();
  const std::chrono::duration<double> all = std::chrono::steady_clock::now() - begin;
  EXPECT_LE(output.metrics.at("train_runtime"), all.count());
  EXPECT_GE(output.metrics.at("train_runtime"), all.count() / 2);
}

// An AnomalyGuard reads every gradient, which a captured step cannot.
TEST_P(DeviceTraining, AnomalyModeRunsStepByStep) {
  const autograd::AnomalyGuard guard;
  ::testing::internal::CaptureStderr();
  Trainer trainer(parts(tiny(), arguments_on(GetParam().str(), 6)));
  EXPECT_EQ(trainer.train().global_step, 6);
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("not captured as a graph: an AnomalyGuard looks at every gradient"), std::string::npos) << said;
}

TEST_P(DeviceTraining, ACallbackThatLooksInsideStepsIsObeyedAndSaid) {
  TrainingArguments args = arguments_on(GetParam().str(), 6);
  std::vector<double> norms;
  const auto run = [&](bool looks) {
    const Bert model = tiny();
    Trainer::Parts all = parts(model, args);
    if (looks)
      all.callbacks.push_back(std::make_shared<AtStepEnd>([&](CallbackContext& context) {
        norms.push_back(context.state.last_grad_norm);   // of this very step
      }));
    ::testing::internal::CaptureStderr();
    Trainer(std::move(all)).train();
    const std::string said = ::testing::internal::GetCapturedStderr();
    EXPECT_EQ(said.find("every step waits for the device, and is not captured as a graph: a callback looks inside") !=
                  std::string::npos,
              looks) << said;
    return weights(*model);
  };
  const std::vector<float> watched = run(true);
  EXPECT_EQ(watched, run(false));
  ASSERT_EQ(norms.size(), 6u);
  for (const double norm : norms) EXPECT_GT(norm, 0);
}

TEST(EmulatedTraining, TuneGemmSaysThatThereIsNothingToTune) {
  if (const std::string why = testing::why_not_on(Device::simt()); !why.empty()) GTEST_SKIP() << why;
  TrainingArguments args;
  args.device = "simt";
  args.tune_gemm = true;
  std::vector<std::string> lines;
  set_log_sink([&](const std::string& sentence) { lines.push_back(sentence); });
  TrainerState state;
  EXPECT_EQ(TunedGemm::begin(args.resolved(), std::nullopt, state), nullptr);
  set_log_sink({});
  EXPECT_EQ(lines, std::vector<std::string>{"tune_gemm has nothing to tune on simt:0: its kernels for products are "
                                            "sinter's own, which have no settings"});
  EXPECT_EQ(state.gemm_tuning_ends, 0);
}

TEST_P(DeviceTraining, RepeatsItselfAndResumes) {
  const auto run = [&](const TrainingArguments& args, const std::optional<std::string>& from) {
    const Bert model = tiny();
    Trainer trainer(parts(model, args));
    trainer.train(from);
    return weights(*model);
  };
  for (const bool fp16 : {false, true}) {
    TrainingArguments args = arguments_on(testing::another(GetParam()).str(), 8);
    args.fp16 = fp16;
    const std::vector<float> once = run(args, std::nullopt);
    args.output_dir += fp16 ? "-fp16" : "-f32";
    args.save_strategy = "steps";
    args.save_steps = 5;
    EXPECT_EQ(run(args, std::nullopt), once);
    const std::string checkpoint = args.output_dir + "/checkpoint-5";
    EXPECT_EQ(run(args, checkpoint), once);
    const Json state = Json::load(checkpoint + "/sinter_state.json");
    const Json scaler = Json::object({{"scale", 65536.0}, {"growth_tracker", 5}});
    EXPECT_EQ(state.at("scaler"), fp16 ? scaler : Json());
  }
}

/// The checkpoint at `to` with another value in its sinter_state.json, whole as its manifest says.
void copy_with(const std::filesystem::path& from, const std::filesystem::path& to, const std::string& key, Json value) {
  StagedFolder folder(to);
  for (const auto& entry : std::filesystem::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    if (name == StagedFolder::kManifest) continue;
    if (name == "sinter_state.json")
      folder.write(name, Json::load(entry.path()).set(key, value).dump());
    else
      folder.write(name, read_file(entry.path(), std::size_t{1} << 30));
  }
  folder.commit();
}

// A sum over micro-batches, and bf16's few bits, are not for gradients.
TEST_P(DeviceTraining, KeepsCopiesOfWeightsIn16Bits) {
  struct Row {
    bool fp16, bf16;
    std::int64_t accumulation;
    bool copies, gradients;
  };
  for (const Row& row : {Row{false, false, 1, false, false}, {true, false, 1, true, true},
                         {true, false, 2, true, false}, {false, true, 1, true, false}}) {
    TrainingArguments args = arguments_on(GetParam().str(), 2);
    args.fp16 = row.fp16;
    args.bf16 = row.bf16;
    args.gradient_accumulation_steps = row.accumulation;
    const Dtype low = row.fp16 ? Dtype::f16 : Dtype::bf16;
    int seen = 0;
    Trainer::Parts made = parts(tiny(), args);
    made.callbacks.push_back(std::make_shared<AtStepEnd>([&](CallbackContext& run) {
      FlatParameters& flat = run.optimizer->parameters();
      EXPECT_EQ(flat.has_low_copy(), row.copies);
      EXPECT_EQ(flat.has_low_gradients(), row.gradients);
      for (const Segment& segment : flat.segments()) {
        const bool is_product = segment.shape.rank() == 2 && segment.name.find("embeddings") == std::string::npos;
        EXPECT_EQ(segment.tensor.meta()->low != nullptr, row.copies && is_product) << segment.name;
        EXPECT_EQ(segment.gradient_dtype, row.gradients && is_product ? low : Dtype::f32) << segment.name;
      }
      ++seen;
    }));
    Trainer(std::move(made)).train();
    EXPECT_EQ(seen, 2);
  }
}

// Outside train() alone, and the weights stay in f32.
TEST_P(DeviceTraining, EvaluatesIn16BitsWhereAskedTo) {
  struct Row {
    bool TrainingArguments::*full_eval;
    double rounding;
  };
  TrainingArguments args = arguments_on(GetParam().str(), 2);
  args.eval_strategy = "steps";
  args.eval_steps = 2;
  Trainer exact(parts(tiny(), args));
  exact.train();
  const double in_f32 = exact.evaluate().at("eval_loss");
  for (const Row& row :
       {Row{&TrainingArguments::fp16_full_eval, 0x1p-11}, {&TrainingArguments::bf16_full_eval, 0x1p-8}}) {
    args.*row.full_eval = true;
    const Bert model = tiny();
    Trainer trainer(parts(model, args));
    trainer.train();
    EXPECT_EQ(logged(trainer, "eval_loss").front(), in_f32);
    const double in_16 = trainer.evaluate().at("eval_loss");
    EXPECT_NE(in_16, in_f32);
    EXPECT_NEAR(in_16, in_f32, 2 * row.rounding);
    EXPECT_EQ(model->compute_dtype(), Dtype::f32);
    args.*row.full_eval = false;
  }
}

TEST_P(DeviceTraining, ResumesWithAScaleOnlyWhereThereWasOne) {
  TrainingArguments args = arguments_on(GetParam().str(), 4);
  args.fp16 = true;
  args.save_strategy = "steps";
  args.save_steps = 2;
  Trainer(parts(tiny(), args)).train();
  const std::filesystem::path root = args.output_dir, sound = root / "checkpoint-2";
  const auto expect_refused = [&](const char* folder, Json scaler, const std::string& sentence) {
    copy_with(sound, root / folder, "scaler", scaler);
    testing::expect_error([&] { Trainer(parts(tiny(), args)).train((root / folder).string()); }, ErrorCode::bad_input,
                          sentence);
  };
  expect_refused("number", 5, "scaler is 5, it must be an object, or null for a run without fp16");
  expect_refused("lost", {}, "scaler is null, it must be an object: the run had fp16");
  expect_refused("negative", Json::object({{"scale", -1.0}, {"growth_tracker", 0}}), "scale is -1");
}

// A scale far too large costs the first steps and no more.
TEST_P(DeviceTraining, AScaleOf2To24Recovers) {
  TrainingArguments args = arguments_on(GetParam().str(), 1);
  args.fp16 = true;
  args.save_strategy = "steps";
  args.save_steps = 1;
  const auto few_rows = [&] {
    Trainer::Parts all = parts(model(0), args);
    all.train_dataset = all.eval_dataset = dataset(24);
    all.compute_metrics = load_metric("accuracy");
    return all;
  };
  Trainer(few_rows()).train();
  const std::filesystem::path root = args.output_dir, sound = root / "checkpoint-1";
  copy_with(sound, root / "huge", "scaler", Json::object({{"scale", 0x1p24}, {"growth_tracker", 0}}));
  args.max_steps = 120;
  args.save_strategy = "no";
  const auto run = [&](const std::filesystem::path& from) {
    Trainer trainer(few_rows());
    trainer.train(from.string());
    return std::pair(trainer.evaluate().at("eval_accuracy"), trainer.state().nonfinite_steps);
  };
  const auto [usual, none] = run(sound);
  const auto [recovered, skipped] = run(root / "huge");
  EXPECT_EQ(none, 0);
  EXPECT_GE(skipped, 4);
  EXPECT_LE(skipped, 16);
  EXPECT_GE(usual, 0.95);
  EXPECT_GE(recovered, 0.95);
}

TEST_P(DeviceTraining, ResumingSaysOnWhatTheRunWas) {
  TrainingArguments args = arguments_on(GetParam().str(), 4);
  args.save_strategy = "steps";
  args.save_steps = 2;
  Trainer(parts(tiny(), args)).train();
  const std::string checkpoint = args.output_dir + "/checkpoint-2";
  const std::string before = Json::load(checkpoint + "/sinter_state.json").get<std::string>("computed_on");
  EXPECT_EQ(before.find(Runtime::instance().device_name(GetParam()) + ", "), 0u) << before;
  args.device = "cpu";
  ::testing::internal::CaptureStderr();
  Trainer(parts(tiny(), args)).train(checkpoint);
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("; the checkpoint's run was on " + before + ", whose bits differ"), std::string::npos) << said;
}

// Weights of 1e30 overflow f16 at every scale: the run names the step and the place where the scale ends.
TEST_P(DeviceTraining, ALossThatOverflowsAtEveryScaleEndsTheRun) {
  TrainingArguments args = arguments_on(GetParam().str(), 40);
  args.fp16 = true;
  const Bert model = tiny();
  {
    const NoGradGuard guard;
    for (const Parameter& parameter : model->named_parameters())
      if (parameter.name == "classifier.weight") Tensor(parameter.tensor).fill_(1e30);
  }
  testing::expect_error([&] { Trainer(parts(model, args)).train(); }, ErrorCode::diverged,
                        "step 17, first in the gradient of ");
}

TEST_P(DeviceTraining, DevicesThatAreNotThereAreRefused) {
  const std::string device = GetParam().type() == DeviceType::cuda ? "cuda:99" : "simt:99";
  testing::expect_error([&] { Trainer(parts(tiny(), arguments_on(device, 1))); }, ErrorCode::not_found,
                        "device " + device + " is not usable: the");
}

// The program starts with or without a GPU, and says what it takes.
TEST(DeviceOfTheProgram, IsSaidWithTheReason) {
  const testing::ScratchFolder folder;
  const testing::ProgramRun run = testing::run_program(
      SINTER_SST2, {"--max_steps", "1", "--eval_strategy", "no", "--output_dir", "out"}, folder.path());
  EXPECT_EQ(run.exit_code, 0) << run.err;
  const std::string why = Runtime::instance().why_unusable(Device::cuda());
  EXPECT_NE(run.out.find(why.empty() ? "device: cuda:0 (" : "; CUDA is not usable: " + why + "\n"), std::string::npos)
      << run.out;
}

}  // namespace
}  // namespace sinter::train
