// What the program sst2 does with bad input: one sentence on standard error, exit code 2, and every file as it was.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "core/io/files.h"
#include "core/io/json.h"
#include "core/io/safetensors.h"
#include "data/reviews.h"
#include "data/tokenizer.h"
#include "nn/pretrained.h"
#include "tests/core/io/lying_safetensors.h"
#include "tests/core/io/scratch_folder.h"
#include "tests/data/bad_tables.h"
#include "tests/nn/bad_configs.h"
#include "tests/nn/small_bert.h"
#include "tests/train/bad_settings.h"
#include "tests/train/program.h"

namespace sinter::train {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

const std::string kTable = "sentence\tlabel\na great film\t1\na dull film\t0\n";

/// Every path below `folder`, with the content of the files.
std::map<std::string, std::string> snapshot(const fs::path& folder) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    found[entry.path()] = entry.is_regular_file() ? read_file(entry.path(), 1 << 26) : "";
  return found;
}

void write(const fs::path& path, std::string_view bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

/// A folder with a model, a data set of two rows and, when the program writes one, out.
class Sst2BadInput : public ::testing::Test {
 protected:
  Sst2BadInput() {
    write(folder_ / "data/train.tsv", kTable);
    write(folder_ / "data/dev.tsv", kTable);
    save_model();
  }
  void save_model(std::int64_t num_labels = 2) const {
    const data::BertTokenizer tokenizer(data::review_vocabulary());
    nn::BertConfig config = testing::small_config();
    config.vocab_size = tokenizer.vocab_size();
    config.num_labels = num_labels;
    fs::create_directories(folder_ / "model");
    nn::save_pretrained(*testing::small_bert(config), folder_ / "model");
    tokenizer.save_pretrained(folder_ / "model");
  }
  static Words job(const Words& more = {}) {
    Words words = {"--model_name_or_path", "model", "--data_dir", "data", "--output_dir", "out", "--num_threads", "1",
                   "--disable_tqdm", "--use_cpu"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  testing::ProgramRun run(const Words& words) const {
    return testing::run_program(SINTER_SST2, words, folder_.path());
  }
  /// Exit code 2; the last line on standard error is "sst2: ... `says` ..."; no file is new, gone or changed.
  void expect_refused(const Words& words, const std::string& says) const {
    SCOPED_TRACE(says);
    const std::map<std::string, std::string> before = snapshot(folder_.path());
    const testing::ProgramRun ended = run(words);
    EXPECT_EQ(ended.exit_code, 2) << ended.err;
    ASSERT_TRUE(ended.err.ends_with('\n'));
    const std::size_t line = ended.err.rfind('\n', ended.err.size() - 2) + 1;  // 0 where there is one line
    const std::string last = ended.err.substr(line);
    EXPECT_TRUE(last.starts_with("sst2: ")) << ended.err;
    EXPECT_NE(last.find(says), std::string::npos) << ended.err;
    EXPECT_TRUE(snapshot(folder_.path()) == before) << "files were left or changed";
  }

  /// Of the model on these rows, and what was said on standard error.
  std::pair<double, std::string> eval_loss(std::string_view dev) const {
    write(folder_ / "data/dev.tsv", dev);
    const testing::ProgramRun ended = run(job({"--do_eval"}));
    EXPECT_EQ(ended.exit_code, 0) << ended.err;
    const Json metrics = Json::load(folder_ / "out/eval_results.json");
    fs::remove_all(folder_ / "out");
    return {metrics.get<double>("eval_loss"), ended.err};
  }
  void name_classes(const char* first, const char* second) const {
    Json config = Json::load(folder_ / "model/config.json");
    config.set("id2label", Json::object({{"0", first}, {"1", second}}));
    config.set("label2id", Json());
    config.save(folder_ / "model/config.json");
  }

  testing::ScratchFolder folder_;
};

// Without this, a job that is refused for some other reason would pass for all of the others.
TEST_F(Sst2BadInput, TheJobItselfRuns) {
  const testing::ProgramRun ended = run(job({"--num_train_epochs", "1"}));
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_TRUE(fs::exists(folder_ / "out/model.safetensors"));
}

TEST_F(Sst2BadInput, Tables) {
  for (const testing::BadTable& table : testing::bad_tables()) {
    write(folder_ / "data/train.tsv", table.bytes);
    expect_refused(job(), "data/" + table.says);
  }
}

TEST_F(Sst2BadInput, Configs) {
  for (const testing::BadConfig& bad : testing::kBadConfigs) {
    write(folder_ / "model/config.json", bad.json);
    expect_refused(job(), bad.rule);
  }
  for (const testing::BadConfigText& bad : testing::kBadConfigTexts) {
    write(folder_ / "model/config.json", bad.json);
    expect_refused(job(), bad.says);
  }
}

TEST_F(Sst2BadInput, LyingWeights) {
  for (const testing::LyingFile& file : testing::LyingFiles()) {
    write(folder_ / "model/model.safetensors", file.bytes);
    expect_refused(job(), file.says);
  }
}

TEST_F(Sst2BadInput, TruncatedWeights) {
  const std::string whole = read_file(folder_ / "model/model.safetensors", 1 << 26);
  for (std::size_t size = 0; size < whole.size(); size += whole.size() / 20 + 1) {
    write(folder_ / "model/model.safetensors", std::string_view(whole).substr(0, size));
    expect_refused(job(), "model/model.safetensors");
  }
}

TEST_F(Sst2BadInput, WeightsOfAnotherModel) {
  const struct {
    const char* json;
    const char* says;
  } rows[] = {
      {R"({"hidden_size": 8})", "the model of config.json needs a floating tensor"},
      {R"({"num_hidden_layers": 3})", "tensor \"bert.encoder.layer.2.attention.self.query.weight\" is missing"},
      {R"({"num_hidden_layers": 1})", "config.json and the weights do not belong together"},
      {R"({"vocab_size": 41})", "the model of config.json needs a floating tensor [41, 16]"},
  };
  const Json whole = Json::load(folder_ / "model/config.json");
  for (const auto& row : rows) {
    Json config = whole;
    const Json changes = Json::parse(row.json, "row");
    for (const auto& [name, value] : changes.items()) config.set(name, value);
    config.save(folder_ / "model/config.json");
    expect_refused(job(), row.says);
  }
  save_model(/*num_labels=*/3);
  expect_refused(job(), "ignore_mismatched_sizes");
}

TEST_F(Sst2BadInput, VocabularyLargerThanTheEmbedding) {
  fs::remove(folder_ / "model/tokenizer.json");
  const std::string tokens = read_file(folder_ / "model/vocab.txt", 1 << 20);
  write(folder_ / "model/vocab.txt", tokens + "onemore\n");
  expect_refused(job(), "vocab_size");
  write(folder_ / "model/vocab.txt", "");
  expect_refused(job(), "vocabulary is empty");
  write(folder_ / "model/vocab.txt", tokens + "good\n");
  expect_refused(job(), "good");
}

TEST_F(Sst2BadInput, WhatIsNotThere) {
  expect_refused({"--model_name_or_path", "nowhere/bert", "--data_dir", "data", "--output_dir", "out"},
                 "hf download nowhere/bert");
  expect_refused({"--model_name_or_path", "model", "--data_dir", "nowhere", "--output_dir", "out"},
                 "data_dir nowhere does not exist");
  fs::remove(folder_ / "data/dev.tsv");
  expect_refused(job(), "data_dir data has no dev.tsv, the validation split");
  fs::remove(folder_ / "model/model.safetensors");
  expect_refused(job(), "model.safetensors");
}

TEST_F(Sst2BadInput, CommandLines) {
  for (const testing::BadCommandLine& bad : testing::bad_command_lines()) expect_refused(bad.words, bad.says);
  for (const testing::BadConfigFile& bad : testing::kBadConfigFiles) {
    write(folder_ / "args.json", bad.json);
    expect_refused({"--config", "args.json"}, bad.says);
  }
}

// Each rule of the arguments, as a file of --config; JSON has no words for what is not finite
// or above 2^63.
TEST_F(Sst2BadInput, Arguments) {
  int tried = 0;
  for (const testing::ArgumentsChange& row : testing::kRefusedArguments) {
    TrainingArguments args;
    args.output_dir = "out";
    row.change(args);
    const std::string says = row.says;
    const bool unwritten = says.find(" is nan") != says.npos || says.find(" is inf") != says.npos ||
                           says.find("seed is ") != says.npos;
    if (unwritten) continue;
    Json json = args.to_json();
    json.set("model_name_or_path", "model");
    json.set("data_dir", "data");
    json.save(folder_ / "args.json");
    expect_refused({"--config", "args.json"}, says);
    ++tried;
  }
  EXPECT_GE(tried, 35);
}

TEST_F(Sst2BadInput, OutputFolders) {
  write(folder_ / "out/thesis.tex", "mine");
  expect_refused(job(), "is not empty; choose another one, resume with resume_from_checkpoint, or pass");
  expect_refused(job({"--resume_from_checkpoint", "true"}), "checkpoint");
  write(folder_ / "file", "mine");
  for (const std::string name : {"file", "file/out", "/proc/out"})
    for (const char* mode : {"--do_train", "--do_eval"})
      expect_refused({"--model_name_or_path", "model", "--data_dir", "data", "--output_dir", name, mode},
                     "output_dir " + name + (name == "file" ? " is not a folder" : " cannot be written"));
  fs::create_directory(folder_ / "locked");
  fs::permissions(folder_ / "locked", fs::perms::owner_read | fs::perms::owner_exec);
  if (::geteuid() != 0)  // root writes everywhere
    expect_refused({"--model_name_or_path", "model", "--data_dir", "data", "--output_dir", "locked/out"}, "locked");
}

TEST_F(Sst2BadInput, SentencesAndPredictFiles) {
  write(folder_ / "empty.txt", "");
  expect_refused({"--model_name_or_path", "model", "--predict_file", "empty.txt"},
                 "predict_file empty.txt has no line");
  expect_refused({"--model_name_or_path", "model", "--predict_file", "nowhere.txt"}, "predict_file nowhere.txt");
  expect_refused({"--model_name_or_path", "model", "--predict_file", "data"}, "predict_file data is no file");
}

TEST_F(Sst2BadInput, TheSourceIsNotAmongWhatIsReplaced) {
  fs::create_directories(folder_ / "out");
  fs::rename(folder_ / "model", folder_ / "out/checkpoint-1");
  expect_refused({"--model_name_or_path", "out/checkpoint-1", "--data_dir", "data", "--output_dir", "out",
                  "--overwrite_output_dir"},
                 "lies in output_dir out");
}

// Answers stay one line each, with two tabs, whatever the sentences and the names of the classes hold.
TEST_F(Sst2BadInput, AnswersAreOneLineEach) {
  name_classes("ne\tg", "p\nos");
  write(folder_ / "lines.txt", std::string("\xEF\xBB\xBFgood\r\na\tb\0c\n\n", 16));
  const testing::ProgramRun ended = run({"--model_name_or_path", "model", "--predict_file", "lines.txt"});
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  EXPECT_EQ(std::count(ended.out.begin(), ended.out.end(), '\n'), 3);
  EXPECT_EQ(std::count(ended.out.begin(), ended.out.end(), '\t'), 6);
  EXPECT_NE(ended.out.find("\tgood\n"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("\ta?b?c\n"), std::string::npos) << ended.out;
}

// The same model whose classes stand in the other order gives the same figures.
TEST_F(Sst2BadInput, LabelsAreThoseThatTheModelMeans) {
  const std::string positive = "sentence\tlabel\na great film\t1\n", negative = "sentence\tlabel\na great film\t0\n";
  name_classes("negative", "positive");
  const double plain = eval_loss(positive).first;
  EXPECT_NE(eval_loss(negative).first, plain);
  name_classes("bad", "good");
  EXPECT_EQ(eval_loss(positive).first, plain);
  name_classes("POSITIVE", "NEGATIVE");
  EXPECT_EQ(eval_loss(negative).first, plain);
}

// What is odd and allowed gives the figures of the same table without it.
TEST_F(Sst2BadInput, OddTablesAreReadAsPlainOnes) {
  const auto [plain, empty] = eval_loss("sentence\tlabel\na \"great film\t1\n\t0\n" + std::string(101, 'x') + "\t1\n");
  EXPECT_NE(empty.find("1 sentence is empty"), std::string::npos) << empty;
  const std::string odd = "\xEF\xBB\xBFsentence\tlabel\r\n\r\na \"gre" + std::string(1, '\0') +
                          "at film\t1\r\n\t0\r\n\n" + std::string(10'000'000, 'x') + "\xFF\t1";
  const auto [same, said] = eval_loss(odd);
  EXPECT_EQ(same, plain);
  EXPECT_NE(said.find("1 line held bytes that are not UTF-8, which were dropped"), std::string::npos) << said;
}

}  // namespace
}  // namespace sinter::train
