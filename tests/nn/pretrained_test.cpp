// Model folders: a round trip, the names that real checkpoints have, and one sentence for each mistake.
#include "nn/pretrained.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>

#include "core/io/json.h"
#include "core/io/safetensors.h"
#include "core/log.h"
#include "tests/core/expect_error.h"
#include "tests/core/io/scratch_folder.h"
#include "tests/nn/small_bert.h"

namespace sinter {
namespace {

using testing::expect_error;
using testing::ScratchFolder;
using testing::small_bert;
using testing::small_config;

using AutoModel = nn::AutoModelForSequenceClassification;
using TensorMap = std::map<std::string, Tensor>;

TensorMap tensors_of(const nn::BertForSequenceClassification& model) {
  TensorMap map;
  for (const Parameter& p : model.named_parameters()) map[p.name] = p.tensor.detach();
  return map;
}

void write_folder(const std::filesystem::path& folder, const nn::BertConfig& config, const TensorMap& tensors) {
  config.to_json().save(folder / "config.json");
  std::vector<SafetensorsTensor> list;
  for (const auto& [name, tensor] : tensors)
    list.push_back({name, tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, tensor.data()});
  write_safetensors(folder / "model.safetensors", list, {{"format", "pt"}});
}

void expect_same_bits(const nn::BertForSequenceClassification& a, const nn::BertForSequenceClassification& b) {
  const ParameterList first = a.named_parameters(), second = b.named_parameters();
  ASSERT_EQ(first.size(), second.size());
  for (std::size_t i = 0; i < first.size(); ++i) {
    ASSERT_EQ(first[i].tensor.shape(), second[i].tensor.shape());
    EXPECT_EQ(std::memcmp(first[i].tensor.data(), second[i].tensor.data(), first[i].tensor.storage()->bytes()), 0)
        << first[i].name;
  }
}

/// Renames every tensor.
TensorMap renamed(const TensorMap& tensors, const std::function<std::string(std::string)>& rule) {
  TensorMap map;
  for (const auto& [name, tensor] : tensors) map[rule(name)] = tensor;
  return map;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  if (const std::size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

class Pretrained : public ::testing::Test {
 protected:
  std::shared_ptr<nn::BertForSequenceClassification> load(const nn::PretrainedOptions& options = {}) {
    said_.clear();
    set_log_sink([this](const std::string& sentence) { said_.push_back(sentence); });
    auto loaded = AutoModel::from_pretrained(folder_.path(), options, &report_);
    set_log_sink({});
    return loaded;
  }
  void TearDown() override { set_log_sink({}); }
  void write(const TensorMap& tensors) { write_folder(folder_.path(), model_->config, tensors); }
  void expect_refused(ErrorCode code, const std::string& says, const nn::PretrainedOptions& options = {}) {
    expect_error([&] { load(options); }, code, says);
  }
  /// Writes config.json with one member more, or changed.
  void configure(const std::string& key, const Json& value) {
    model_->config.to_json().set(key, value).save(folder_ / "config.json");
  }

  ScratchFolder folder_;
  std::unique_ptr<nn::BertForSequenceClassification> model_ = small_bert();
  nn::LoadReport report_;
  std::vector<std::string> said_;
};

TEST_F(Pretrained, RoundTripKeepsEveryBit) {
  model_->config.id2label = {{0, "negative"}, {1, "positive"}};
  nn::save_pretrained(*model_, folder_ / "deep/er");
  const auto loaded = AutoModel::from_pretrained(folder_ / "deep/er", {}, &report_);
  expect_same_bits(*model_, *loaded);
  EXPECT_TRUE(report_.newly_initialized.empty());
  EXPECT_TRUE(report_.ignored.empty());
  EXPECT_EQ(loaded->config.to_json(), model_->config.to_json());
  EXPECT_EQ(loaded->config.label_name(1), "positive");
  EXPECT_TRUE(loaded->is_training());
}

TEST_F(Pretrained, NamesOfTheFirstRelease) {
  write(renamed(tensors_of(*model_), [](const std::string& name) {
    return replaced(replaced(name, "LayerNorm.weight", "LayerNorm.gamma"), "LayerNorm.bias", "LayerNorm.beta");
  }));
  expect_same_bits(*model_, *load());
}

TEST_F(Pretrained, ABareEncoderGetsANewClassifierAndSaysSo) {
  TensorMap tensors = tensors_of(*model_);
  tensors.erase("classifier.weight");
  tensors.erase("classifier.bias");
  write(renamed(tensors, [](const std::string& name) { return replaced(name, "bert.", ""); }));
  const auto loaded = load({.num_labels = 3, .seed = 7});
  EXPECT_EQ(report_.newly_initialized, (std::vector<std::string>{"classifier.weight", "classifier.bias"}));
  EXPECT_EQ(said_, (std::vector<std::string>{
                       folder_.path().string() +
                       ": newly initialised, to be trained before use: classifier.weight, classifier.bias"}));
  EXPECT_EQ(loaded->classifier.weight.shape(), Shape({3, 16}));
  EXPECT_EQ(loaded->config.num_labels, 3);
  EXPECT_EQ(loaded->bert.pooler.dense.weight.to_vector<float>(), model_->bert.pooler.dense.weight.to_vector<float>());
  EXPECT_EQ(load({.num_labels = 3, .seed = 7})->classifier.weight.to_vector<float>(),
            loaded->classifier.weight.to_vector<float>());
  EXPECT_NE(load({.num_labels = 3, .seed = 8})->classifier.weight.to_vector<float>(),
            loaded->classifier.weight.to_vector<float>());
  EXPECT_EQ(loaded->classifier.bias.to_vector<float>(), std::vector<float>(3, 0.0f));
}

// A model for masked words has no pooler.
TEST_F(Pretrained, APoolerThatIsNotThereIsNewToo) {
  TensorMap tensors = tensors_of(*model_);
  for (const char* layer : {"bert.pooler.dense", "classifier"})
    for (const char* part : {".weight", ".bias"}) tensors.erase(std::string(layer) + part);
  write(tensors);
  const auto loaded = load({.seed = 7});
  EXPECT_EQ(report_.newly_initialized,
            (std::vector<std::string>{"bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight",
                                      "classifier.bias"}));
  nn::BertForSequenceClassification fresh(model_->config);
  init_weights(fresh, model_->config.initializer_range, 7);
  for (const auto& [a, b] : {std::pair{&loaded->bert.pooler.dense, &fresh.bert.pooler.dense},
                             std::pair{&loaded->classifier, &fresh.classifier}}) {
    EXPECT_EQ(a->weight.to_vector<float>(), b->weight.to_vector<float>());
    EXPECT_EQ(a->bias.to_vector<float>(), b->bias.to_vector<float>());
  }
}

TEST_F(Pretrained, HeadsOfOtherTasksAreIgnored) {
  TensorMap tensors = tensors_of(*model_);
  tensors["bert.embeddings.position_ids"] = Tensor::arange(12).reshape({1, 12});
  tensors["cls.predictions.bias"] = Tensor::zeros({40});
  tensors["cls.predictions.transform.LayerNorm.gamma"] = Tensor::zeros({16});
  tensors["cls.seq_relationship.weight"] = Tensor::zeros({2, 16});
  tensors["qa_outputs.weight"] = Tensor::zeros({2, 16});
  write(tensors);
  expect_same_bits(*model_, *load());
  EXPECT_EQ(report_.ignored.size(), 5u);
  EXPECT_TRUE(said_.empty());
  // What these call their classifier has the right name and says nothing about sentences.
  for (const char* other : {"BertForTokenClassification", "BertForMultipleChoice"}) {
    configure("architectures", Json::array({other}));
    EXPECT_NE(load()->classifier.weight.to_vector<float>(), model_->classifier.weight.to_vector<float>());
    EXPECT_EQ(report_.newly_initialized.size(), 2u);
    EXPECT_EQ(report_.ignored.size(), 7u);
  }
}

TEST_F(Pretrained, OptionsReplaceWhatConfigSays) {
  model_->config.id2label = {{0, "negative"}, {1, "positive"}};
  write(tensors_of(*model_));
  EXPECT_EQ(load({.num_labels = 2})->config.label_name(1), "positive");
  EXPECT_EQ(load({.id2label = {{0, "no"}, {1, "yes"}}})->config.label_name(1), "yes");
  const auto loaded = load({.problem_type = "multi_label_classification", .hidden_dropout_prob = 0.25,
                            .attention_probs_dropout_prob = 0.5, .classifier_dropout = 0.75});
  EXPECT_EQ(loaded->config.problem_type, "multi_label_classification");
  EXPECT_EQ(loaded->bert.embeddings.dropout.p, 0.25);
  EXPECT_EQ(loaded->bert.encoder.layer[1]->attention.self.dropout.p, 0.5);
  EXPECT_EQ(loaded->dropout.p, 0.75);
  expect_refused(ErrorCode::usage, "num_labels is 3, it must be the number of names in id2label",
                 {.num_labels = 3, .id2label = {{0, "no"}, {1, "yes"}}});
  expect_refused(ErrorCode::usage, "id2label is a table with gaps, it must name every class from 0 on",
                 {.id2label = {{1, "no"}, {2, "yes"}}});
  expect_refused(ErrorCode::usage, "num_labels is 0, it must lie between 1 and 1048576", {.num_labels = 0});
  expect_refused(ErrorCode::usage, "num_labels is 1048577, it must lie between", {.num_labels = 1048577});
  expect_refused(ErrorCode::usage, "hidden_dropout_prob is 1, it must lie in [0, 1)", {.hidden_dropout_prob = 1});
  expect_refused(ErrorCode::usage, "problem_type is \"ranking\", it must be", {.problem_type = "ranking"});
}

TEST_F(Pretrained, AnotherNumberOfClassesIsRefusedUnlessAskedFor) {
  model_->config.id2label = {{0, "negative"}, {1, "positive"}};
  write(tensors_of(*model_));
  expect_refused(ErrorCode::bad_input,
                 "model.safetensors: its classifier has 2 classes (tensor \"classifier.bias\" is [2]), num_labels is "
                 "5; give num_labels = 2, or ignore_mismatched_sizes for a newly initialised classifier of 5",
                 {.num_labels = 5});
  const auto loaded = load({.num_labels = 5, .ignore_mismatched_sizes = true});
  EXPECT_EQ(loaded->classifier.weight.shape(), Shape({5, 16}));
  EXPECT_EQ(loaded->config.label_name(1), "LABEL_1");
  EXPECT_EQ(report_.newly_initialized, (std::vector<std::string>{"classifier.weight", "classifier.bias"}));
  EXPECT_EQ(report_.ignored, (std::vector<std::string>{"classifier.bias", "classifier.weight"}));
  ASSERT_EQ(said_.size(), 1u);
  expect_same_bits(*model_, *load({.num_labels = 2, .ignore_mismatched_sizes = true}));

  // Only the classifier, and only its number of classes.
  TensorMap tensors = tensors_of(*model_);
  tensors["classifier.weight"] = Tensor::zeros({2, 15});
  write(tensors);
  expect_refused(ErrorCode::bad_input, "\"classifier.weight\" is f32 [2, 15]", {.ignore_mismatched_sizes = true});
  tensors = tensors_of(*model_);
  tensors["bert.embeddings.word_embeddings.weight"] = Tensor::zeros({41, 16});
  write(tensors);
  expect_refused(ErrorCode::bad_input, "is f32 [41, 16], the model of config.json needs a floating tensor [40, 16]",
                 {.ignore_mismatched_sizes = true});
}

TEST_F(Pretrained, OtherArchitecturesAreRefused) {
  write(tensors_of(*model_));
  configure("model_type", "roberta");
  expect_refused(ErrorCode::bad_input, "config.json: model_type is \"roberta\", it must be \"bert\"; sinter has no");
  configure("architectures", Json::array({"RobertaForMaskedLM"}));
  expect_refused(ErrorCode::bad_input, "config.json: architectures is \"RobertaForMaskedLM\", it must name a BERT");
}

TEST_F(Pretrained, ANameIsLookedUpInTheCache) {
  const std::filesystem::path snapshot = folder_ / "hub/models--org--tiny/snapshots/0abc";
  nn::save_pretrained(*model_, snapshot);
  ::setenv("HF_HUB_CACHE", (folder_ / "hub").c_str(), 1);
  expect_same_bits(*model_, *AutoModel::from_pretrained("org/tiny"));
  std::filesystem::remove(snapshot / "model.safetensors");
  const std::string fetch = R"(; fetch it with: hf download org/tiny "*.json" "*.txt" "*.safetensors")";
  expect_error([] { AutoModel::from_pretrained("org/tiny"); }, ErrorCode::not_found,
               "has no model.safetensors or model.safetensors.index.json (looked in " +
                   snapshot.parent_path().string() + ")" + fetch);
  std::filesystem::remove(snapshot / "config.json");
  expect_error([] { AutoModel::from_pretrained("org/tiny"); }, ErrorCode::not_found, "has no config.json");
  ::unsetenv("HF_HUB_CACHE");
}

TEST_F(Pretrained, ShardsLoadAsOneFileDoes) {
  const TensorMap tensors = tensors_of(*model_);
  model_->config.to_json().save(folder_ / "config.json");
  Json map = Json::object();
  std::vector<SafetensorsTensor> shards[3];
  std::int64_t total = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t place = map.size() % 3;
    shards[place].push_back({name, tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, tensor.data()});
    map.set(name, "part-" + std::to_string(place) + ".safetensors");
    total += tensor.numel() * 4;
  }
  for (std::size_t place = 0; place < 3; ++place)
    write_safetensors(folder_ / ("part-" + std::to_string(place) + ".safetensors"), shards[place]);
  Json::object({{"metadata", Json::object({{"total_size", total}})}, {"weight_map", map}})
      .save(folder_ / "model.safetensors.index.json");
  expect_same_bits(*model_, *load());
  std::filesystem::remove(folder_ / "part-1.safetensors");
  expect_refused(ErrorCode::bad_input, "lists the shard part-1.safetensors, which is not there");
}

TEST_F(Pretrained, EveryFloatingDtypeLoads) {
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16, Dtype::f64}) {
    TensorMap tensors = tensors_of(*model_);
    for (auto& [name, tensor] : tensors) tensor = tensor.to(dtype);
    write(tensors);
    const auto loaded = load();
    for (const Parameter& p : loaded->named_parameters()) {
      EXPECT_EQ(p.tensor.dtype(), Dtype::f32);
      EXPECT_EQ(p.tensor.to_vector<float>(), tensors[p.name].to(Dtype::f32).to_vector<float>()) << p.name;
    }
  }
}

TEST_F(Pretrained, WrongTensorsAreOneSentenceEach) {
  const TensorMap good = tensors_of(*model_);
  const std::string query = "bert.encoder.layer.1.attention.self.query.weight";

  TensorMap bad = good;
  bad[query] = Tensor::zeros({16, 15});
  write(bad);
  expect_refused(
      ErrorCode::bad_input,
      "tensor \"" + query + "\" is f32 [16, 15], the model of config.json needs a floating tensor [16, 16]");

  bad = good;
  bad[query] = Tensor::zeros({256});
  write(bad);
  expect_refused(ErrorCode::bad_input, "is f32 [256]");

  bad = good;
  bad[query] = Tensor::zeros({16, 16}, {Dtype::i32});
  write(bad);
  expect_refused(ErrorCode::bad_input, "is i32 [16, 16]");

  bad = good;
  bad.erase(query);
  write(bad);
  expect_refused(ErrorCode::bad_input, "tensor \"" + query + "\" is missing");

  bad = good;
  bad["bert.encoder.layer.2.attention.self.query.weight"] = good.at(query);
  write(bad);
  expect_refused(ErrorCode::bad_input,
                 "tensor \"bert.encoder.layer.2.attention.self.query.weight\" is no parameter of this BERT "
                 "classifier with 2 layers; config.json and the weights do not belong together");

  bad = good;
  bad["encoder.layer.1.attention.self.query.weight"] = good.at(query);  // with and without the prefix
  write(bad);
  expect_refused(ErrorCode::bad_input, "two tensors are " + query);

  bad = good;
  bad["bert.x\n\x1b[2J" + std::string(100'000, 'y')] = Tensor::zeros({1});
  write(bad);
  expect_refused(ErrorCode::bad_input, "tensor \"bert.x??[2Jyyy");
  expect_refused(ErrorCode::bad_input, "yyy ...\" is no parameter");

  bad = good;
  bad[query] = Tensor::zeros({1, 1, 1, 1, 16, 16});
  write(bad);
  expect_refused(ErrorCode::bad_input, "is f32 [1, 1, 1, 1, 16, 16]");
}

TEST_F(Pretrained, AConfigThatDoesNotFitTakesNoMemory) {
  nn::save_pretrained(*model_, folder_.path());
  for (const auto& change : std::initializer_list<std::function<void(nn::BertConfig&)>>{
           [](nn::BertConfig& c) { c.num_hidden_layers = std::int64_t{1} << 31; },
           [](nn::BertConfig& c) { c.hidden_size = c.intermediate_size = std::int64_t{1} << 31; },
           [](nn::BertConfig& c) { c.vocab_size = std::int64_t{1} << 31; }}) {
    nn::BertConfig config = model_->config;
    change(config);
    config.to_json().save(folder_ / "config.json");
    expect_refused(ErrorCode::bad_input, "config.json and the weights do not belong together");
  }
}

TEST_F(Pretrained, MissingFilesAreNamed) {
  const std::string folder = folder_.path().string();
  expect_refused(ErrorCode::not_found, "the folder " + folder + " has no config.json");
  model_->config.to_json().save(folder_ / "config.json");
  expect_refused(ErrorCode::not_found,
                 "the folder " + folder + " has no model.safetensors or model.safetensors.index.json");
  expect_error([&] { AutoModel::from_pretrained(folder_ / "nowhere"); }, ErrorCode::not_found,
               "there is no folder " + folder + "/nowhere");
  // A pickle is never read; the sentence holds a command that converts it.
  for (const char* other : {"flax_model.msgpack", "tf_model.h5", "pytorch_model.bin.index.json"}) {
    write_file_atomically(folder_ / other, "x");
    expect_refused(ErrorCode::bad_input, folder + " has its weights only as " + other + ", sinter reads safetensors");
  }
  write_file_atomically(folder_ / "pytorch_model.bin", "x");
  expect_refused(ErrorCode::bad_input, "/pytorch_model.bin is a pickle, which could run any program and is never read; "
                                       "convert it with: python -c \"import torch");
}

// Whatever stands in the place of a file, opening returns at once with a sentence.
TEST_F(Pretrained, WhatIsNoFileIsRefusedWithoutWaiting) {
  for (const char* name : {"config.json", "model.safetensors", "model.safetensors.index.json"}) {
    SCOPED_TRACE(name);
    const auto in_its_place = [&](const char* says, ErrorCode code, const std::function<void()>& make) {
      nn::save_pretrained(*model_, folder_.path());
      if (std::string(name) == "model.safetensors.index.json") std::filesystem::remove(folder_ / "model.safetensors");
      std::filesystem::remove_all(folder_ / name);
      make();
      expect_refused(code, says);
      std::filesystem::remove_all(folder_ / name);
    };
    const std::filesystem::path path = folder_ / name;
    in_its_place("is a folder", ErrorCode::bad_input, [&] { std::filesystem::create_directory(path); });
    in_its_place("is a device or a pipe", ErrorCode::bad_input, [&] { ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0); });
    in_its_place("is a device or a pipe", ErrorCode::bad_input,
                 [&] { std::filesystem::create_symlink("/dev/zero", path); });
    in_its_place(name, ErrorCode::bad_input, [&] { write_file_atomically(path, ""); });
  }
}

TEST_F(Pretrained, ALoopOfLinksIsAnErrorOfTheSystem) {
  std::filesystem::create_symlink("config.json", folder_ / "config.json");
  expect_refused(ErrorCode::io, "config.json: Too many levels of symbolic links");
}

// The tests may run as root, which may read everything: a child process gives that up first.
TEST_F(Pretrained, AFolderThatMayNotBeReadIsSaidSo) {
  write(tensors_of(*model_));
  std::filesystem::permissions(folder_.path(), std::filesystem::perms::none);
  const pid_t child = ::fork();
  if (child == 0) {
    if (::geteuid() == 0 && ::setuid(65534) != 0) std::_Exit(1);
    try {
      load();
    } catch (const Error& error) {
      const bool said = std::string(error.what()).find("config.json: Permission denied") != std::string::npos;
      std::_Exit(said && error.code() == ErrorCode::io ? 0 : 2);
    }
    std::_Exit(3);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  std::filesystem::permissions(folder_.path(), std::filesystem::perms::owner_all);
}

TEST(CheckVocabulary, MoreTokensThanRowsAreRefusedAndFewerAreSaid) {
  const nn::BertConfig config = small_config();
  EXPECT_EQ(nn::check_vocabulary(40, config), "");
  EXPECT_EQ(nn::check_vocabulary(38, config),
            "the vocabulary has 38 tokens, the model embeds 40 (vocab_size); do tokenizer and model belong together?");
  expect_error([&] { nn::check_vocabulary(41, config); }, ErrorCode::bad_input,
               "the vocabulary has 41 tokens, the model embeds only 40 (vocab_size); tokenizer and model do not");
}

TEST_F(Pretrained, CheckpointsMustBeWhole) {
  TensorMap tensors = tensors_of(*model_);
  tensors.erase("classifier.bias");
  write(tensors);
  const auto other = small_bert();
  expect_error([&] { nn::load_weights(*other, folder_ / "model.safetensors", true); }, ErrorCode::bad_input,
               "tensor \"classifier.bias\" is missing");
}

TEST_F(Pretrained, AFailedLoadLeavesTheModelAlone) {
  TensorMap tensors = tensors_of(*model_);
  for (auto& [name, tensor] : tensors) tensor = Tensor::zeros(tensor.shape());
  tensors["unknown"] = Tensor::zeros({1});
  write(tensors);
  const auto target = small_bert();
  expect_error([&] { nn::load_weights(*target, folder_ / "model.safetensors", true); }, ErrorCode::bad_input,
               "\"unknown\"");
  expect_same_bits(*target, *model_);
}

}  // namespace
}  // namespace sinter
