// tune_gemm from the Trainer down to cuBLASLt, on a backend whose library is pretended (tests/kernels/gpu): each of its
// algorithms rounds in its own way, so equal weights show that the same ones were taken.
#include "train/tuned_gemm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "core/io/staged_folder.h"
#include "core/log.h"
#include "tests/kernels/gpu/pretended_cublaslt.h"
#include "tests/train/trainer_fixture.h"
#include "train/checkpoint.h"

namespace sinter::train {
namespace {

namespace fs = std::filesystem;
using kernels::testing::Offer;

class TunedTraining : public TrainerFixture {
 protected:
  void SetUp() override {
    TrainerFixture::SetUp();
    ASSERT_EQ(Runtime::instance().why_unusable(Device::cuda()), "");
    use_cache("cache");
    the_second_is_fastest();
    set_log_sink([this](const std::string& sentence) { lines_.push_back(sentence); });
  }
  void TearDown() override {
    set_log_sink({});
    TrainerFixture::TearDown();
  }

  void use_cache(const std::string& name) const { setenv("XDG_CACHE_HOME", (folder_ / name).c_str(), 1); }
  static void the_second_is_fastest() {
    kernels::testing::offer({{.milliseconds = 3}, {.milliseconds = 1}, {.milliseconds = 2}});
  }
  static void the_third_is_fastest() {
    kernels::testing::offer({{.milliseconds = 3}, {.milliseconds = 2}, {.milliseconds = 1}});
  }

  TrainingArguments tuned(const std::string& name, std::int64_t steps = 8) const {
    TrainingArguments args = arguments(name);
    args.use_cpu = false;
    args.device = "cuda";
    args.tune_gemm = true;
    args.cuda_graphs = false;   // the pretended library computes at once, and would be in no graph
    args.per_device_train_batch_size = 4;
    args.gradient_accumulation_steps = 1;
    args.max_steps = steps;
    args.save_strategy = "steps";
    args.save_steps = 5;
    args.logging_steps = 100;
    return args;
  }
  /// The weights behind the training.
  std::vector<float> run(const TrainingArguments& args, const std::optional<std::string>& from = std::nullopt) const {
    const Bert trained = model();
    Trainer trainer(parts(trained, args));
    trainer.train(from);
    return weights(*trained);
  }
  fs::path checkpoint(const std::string& name, int step) const {
    return folder_ / name / ("checkpoint-" + std::to_string(step));
  }
  GemmTable table(const std::string& name, int step) const {
    return GemmTable::from_json(Json::load(checkpoint(name, step) / TunedGemm::kFile));
  }
  int count_lines(const std::string& words) const {
    return static_cast<int>(std::count_if(lines_.begin(), lines_.end(), [&](const std::string& line) {
      return line.find(words) != std::string::npos;
    }));
  }

  std::vector<std::string> lines_;
};

TEST_F(TunedTraining, TakesTheFastestAndOtherRunsTakeThatFromTheCache) {
  TrainingArguments plain = tuned("plain");
  plain.tune_gemm = false;
  const std::vector<float> by_heuristic = run(plain);
  EXPECT_FALSE(fs::exists(checkpoint("plain", 5) / TunedGemm::kFile));
  EXPECT_FALSE(fs::exists(folder_ / "cache"));

  const std::vector<float> by_table = run(tuned("first"));
  EXPECT_NE(by_table, by_heuristic);
  EXPECT_EQ(count_lines(" matrix products were tuned"), 1);
  ASSERT_TRUE(fs::exists(folder_ / "cache/sinter"));
  the_third_is_fastest();
  EXPECT_EQ(run(tuned("second")), by_table);
  EXPECT_EQ(count_lines(" matrix products were tuned"), 1);
  use_cache("another");
  EXPECT_NE(run(tuned("third")), by_table);
  plain.output_dir = (folder_ / "again").string();
  EXPECT_EQ(run(plain), by_heuristic);   // the table is closed
}

TEST_F(TunedTraining, CheckpointsKeepTheTable) {
  run(tuned("out"));
  EXPECT_TRUE(verify_manifest(checkpoint("out", 5)).empty());
  const Json manifest = Json::load(checkpoint("out", 5) / "manifest.json");
  EXPECT_NE(manifest.dump().find(TunedGemm::kFile), std::string::npos);
  const GemmTable at_5 = table("out", 5), at_8 = table("out", 8);
  EXPECT_EQ(at_5.library, "cuBLASLt 13.1.0");
  EXPECT_EQ(at_5.gpu, "pretended GPU 0");
  EXPECT_GT(at_5.choices.size(), 5u);
  EXPECT_GE(at_8.choices.size(), at_5.choices.size());
  for (const kernels::GemmChoice& each : at_8.choices) EXPECT_EQ(each.algorithm[2], 1u);
}

TEST_F(TunedTraining, AResumedRunTakesTheCheckpointsTableAndNotTheCaches) {
  const std::vector<float> whole = run(tuned("whole"));
  use_cache("another");
  the_third_is_fastest();
  EXPECT_NE(run(tuned("other")), whole);   // fills that cache with other choices
  the_second_is_fastest();                 // what the table of step 5 lacks is tuned as in the whole run
  EXPECT_EQ(run(tuned("resumed"), checkpoint("whole", 5).string()), whole);
}

TEST_F(TunedTraining, ACheckpointWithoutATableBeginsToTune) {
  TrainingArguments plain = tuned("plain");
  plain.tune_gemm = false;
  run(plain);
  run(tuned("resumed"), checkpoint("plain", 5).string());
  EXPECT_EQ(count_lines("checkpoint-5 has no gemm_table.json: products are tuned from here on"), 1);
  EXPECT_FALSE(table("resumed", 8).choices.empty());
  const Json state = Json::load(checkpoint("resumed", 8) / "sinter_state.json");
  EXPECT_EQ(state.at("state").get<std::int64_t>("gemm_tuning_ends"), 5 + TunedGemm::kUpdates);
}

TEST_F(TunedTraining, LaterUpdatesTuneNothing) {
  constexpr std::int64_t kEnd = TunedGemm::kUpdates;
  TrainingArguments args = tuned("long", kEnd + 4);
  args.save_steps = kEnd;
  run(args);
  const std::size_t known = table("long", kEnd).choices.size();
  EXPECT_EQ(table("long", kEnd + 4).choices.size(), known);
  args.output_dir = (folder_ / "resumed").string();
  args.save_steps = 4;
  args.per_device_train_batch_size = 3;    // products that nobody has met
  args.max_steps = kEnd + 8;
  run(args, checkpoint("long", kEnd).string());
  const std::vector<fs::path> saved = [&] {
    std::vector<fs::path> found;
    for (const CheckpointFolder& each : list_checkpoints(folder_ / "resumed")) found.push_back(each.path);
    return found;
  }();
  ASSERT_FALSE(saved.empty());
  EXPECT_EQ(GemmTable::from_json(Json::load(saved.back() / TunedGemm::kFile)).choices.size(), known);
}

TEST_F(TunedTraining, EvaluationsTuneNothing) {
  TrainingArguments args = tuned("evaluated");
  args.eval_strategy = "steps";
  args.eval_steps = 2;
  args.per_device_eval_batch_size = 7;
  const Bert trained = model();
  Trainer::Parts all = parts(trained, args);
  all.eval_dataset = dataset(20);
  Trainer(std::move(all)).train();
  use_cache("another");
  run(tuned("alone"));
  EXPECT_EQ(table("evaluated", 8).choices, table("alone", 8).choices);
}

}  // namespace
}  // namespace sinter::train
