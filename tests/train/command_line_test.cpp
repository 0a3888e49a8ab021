#include "train/command_line.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/error.h"
#include "tests/core/io/scratch_folder.h"
#include "tests/train/bad_settings.h"

namespace sinter::train {
namespace {

std::optional<CommandLine> parse(std::vector<std::string> words) {
  words.insert(words.begin(), "sst2");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  return parse_command_line(static_cast<int>(argv.size()), argv.data());
}

std::string refusal(const std::vector<std::string>& words) {
  try {
    parse(words);
  } catch (const Error& error) {  // of any code
    return error.what();
  }
  return "accepted";
}

class ConfigFile {
 public:
  explicit ConfigFile(const std::string& text) { std::ofstream(path()) << text; }
  std::string path() const { return folder_ / "config.json"; }

 private:
  sinter::testing::ScratchFolder folder_;
};

TEST(CommandLine, DefaultsFollowTheJob) {
  const CommandLine reviews = *parse({});
  EXPECT_TRUE(reviews.args.do_train && reviews.args.do_eval && !reviews.args.do_predict);
  EXPECT_EQ(reviews.args.num_train_epochs, 12);
  EXPECT_TRUE(reviews.overwrites_demonstration);
  const CommandLine sst2 = *parse({"--data_dir", "SST-2", "--model_name_or_path", "bert", "--do_eval"});
  EXPECT_TRUE(!sst2.args.do_train && sst2.args.do_eval);
  EXPECT_EQ(sst2.args.learning_rate, 2e-5);
  EXPECT_EQ(sst2.args.warmup_ratio, 0);
  EXPECT_FALSE(sst2.overwrites_demonstration);
  EXPECT_FALSE(parse({"--output_dir", "x"})->overwrites_demonstration);
}

TEST(CommandLine, FlagsAreWrittenAsHuggingFaceWritesThem) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"--load_best_model_at_end"},
                                                {"--load_best_model_at_end", "True"},
                                                {"--load_best_model_at_end=true"}})
    EXPECT_TRUE(parse(words)->args.load_best_model_at_end) << words.back();
  EXPECT_FALSE(parse({"--logging_first_step", "False"})->args.logging_first_step);
  EXPECT_TRUE(parse({"--no_cuda"})->args.use_cpu);
  EXPECT_EQ(parse({"--greater_is_better", "False"})->args.greater_is_better, false);
}

TEST(CommandLine, OptionsWinOverTheFileAndTheFileOverDefaults) {
  const ConfigFile file(R"({"learning_rate": 1e-4, "max_seq_length": 64, "per_device_train_batch_size": 4})");
  const CommandLine c = *parse({"--config", file.path(), "--learning_rate", "3e-4"});
  EXPECT_EQ(c.args.learning_rate, 3e-4);
  EXPECT_EQ(c.max_seq_length, 64);
  EXPECT_EQ(c.args.per_device_train_batch_size, 4);
  EXPECT_EQ(c.args.num_train_epochs, 12);
}

TEST(CommandLine, AFileMayNameTheData) {
  const ConfigFile file(R"({"data_dir": "SST-2", "model_name_or_path": "bert", "output_dir": "o"})");
  const CommandLine c = *parse({"--config=" + file.path()});
  EXPECT_EQ(c.data_dir, "SST-2");
  EXPECT_EQ(c.args.num_train_epochs, 3);
}

TEST(CommandLine, ItsOwnDefaultsGiveWayWithoutAWord) {
  const TrainingArguments older = parse({"--evaluation_strategy", "steps", "--eval_steps", "5"})->args;
  EXPECT_EQ(older.resolved().eval_strategy, "steps");
  EXPECT_TRUE(parse({"--max_steps", "5", "--lr_scheduler_type", "constant", "--save_strategy", "no"})
                  ->args.warnings().empty());
  EXPECT_FALSE(parse({"--max_steps", "5", "--num_train_epochs", "2"})->args.warnings().empty());
}

TEST(CommandLine, SentencesAloneAreClassified) {
  const CommandLine c = *parse({"--model_name_or_path", "m", "--sentence", "a b", "--sentence", "c"});
  EXPECT_TRUE(c.only_classifies());
  EXPECT_EQ(c.sentences, (std::vector<std::string>{"a b", "c"}));
  EXPECT_FALSE(c.args.do_train || c.args.do_eval);
}

TEST(CommandLine, RanksAreStartedWithTheOtherOptions) {
  EXPECT_EQ(parse({})->nproc, 0);
  EXPECT_EQ(parse({})->ddp_timeout, 60);
  EXPECT_EQ(parse({"--nproc=3", "--ddp_timeout", "5"})->nproc, 3);
  std::vector<std::string> words = {"sst2", "--seed", "7", "--nproc", "3", "--fp16", "--nproc=4", "--nprocs", "x"};
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  EXPECT_EQ(without_option(static_cast<int>(argv.size()), argv.data(), "--nproc"),
            (std::vector<std::string>{"sst2", "--seed", "7", "--fp16", "--nprocs", "x"}));
  for (const char* number : {"-1", "5000"})
    EXPECT_EQ(refusal({"--nproc", number}), "nproc is " + std::string(number) +
                                                ", it must lie between 1 and 1024, or be 0 to start no process");
  EXPECT_EQ(refusal({"--ddp_timeout", "0"}), "ddp_timeout is 0, it must lie between 1 and 86400 seconds");
  EXPECT_NE(refusal({"--sentence", "x", "--model_name_or_path", "m", "--nproc", "2"}), "accepted");
}

TEST(CommandLine, RefusesInOneSentence) {
  for (const testing::BadCommandLine& bad : testing::bad_command_lines()) {
    const std::string said = refusal(bad.words);
    EXPECT_NE(said.find(bad.says), std::string::npos) << bad.words.front() << ": " << said;
  }
}

TEST(CommandLine, RefusesAFileInOneSentence) {
  for (const testing::BadConfigFile& bad : testing::kBadConfigFiles) {
    const ConfigFile file(bad.json);
    const std::string said = refusal({"--config", file.path()});
    EXPECT_NE(said.find(bad.says), std::string::npos) << bad.json << ": " << said;
  }
  EXPECT_NE(refusal({"--config", "/nowhere.json"}).find("/nowhere.json"), std::string::npos);
}

}  // namespace
}  // namespace sinter::train
