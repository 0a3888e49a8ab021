// Model folders: a round trip, the names that real checkpoints have, and one sentence for each mistake.
#include "nn/pretrained.h"

#include <gtest/gtest.h>

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
  std::unique_ptr<nn::BertForSequenceClassification> load(const nn::PretrainedOptions& options = {}) {
    said_.clear();
    set_log_sink([this](const std::string& sentence) { said_.push_back(sentence); });
    auto loaded = nn::bert_from_pretrained(folder_.path(), options, &report_);
    set_log_sink({});
    return loaded;
  }
  void TearDown() override { set_log_sink({}); }
  void write(const TensorMap& tensors) { write_folder(folder_.path(), model_->config, tensors); }
  void expect_refused(ErrorCode code, const std::string& says) {
    expect_error([&] { load(); }, code, says);
  }

  ScratchFolder folder_;
  std::unique_ptr<nn::BertForSequenceClassification> model_ = small_bert();
  nn::LoadReport report_;
  std::vector<std::string> said_;
};

TEST_F(Pretrained, RoundTripKeepsEveryBit) {
  model_->config.id2label = {{0, "negative"}, {1, "positive"}};
  nn::save_pretrained(*model_, folder_ / "deep/er");
  const auto loaded = nn::bert_from_pretrained(folder_ / "deep/er", {}, &report_);
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
  ASSERT_EQ(said_.size(), 1u);
  EXPECT_NE(said_[0].find("classifier.weight, classifier.bias"), std::string::npos) << said_[0];
  EXPECT_EQ(loaded->classifier.weight.shape(), Shape({3, 16}));
  EXPECT_EQ(loaded->config.num_labels, 3);
  EXPECT_EQ(loaded->bert.pooler.dense.weight.to_vector<float>(), model_->bert.pooler.dense.weight.to_vector<float>());
  EXPECT_EQ(load({.num_labels = 3, .seed = 7})->classifier.weight.to_vector<float>(),
            loaded->classifier.weight.to_vector<float>());
  EXPECT_NE(load({.num_labels = 3, .seed = 8})->classifier.weight.to_vector<float>(),
            loaded->classifier.weight.to_vector<float>());
  EXPECT_EQ(loaded->classifier.bias.to_vector<float>(), std::vector<float>(3, 0.0f));
}

TEST_F(Pretrained, PreTrainingHeadsAndPositionIdsAreIgnored) {
  TensorMap tensors = tensors_of(*model_);
  tensors["bert.embeddings.position_ids"] = Tensor::arange(12).reshape({1, 12});
  tensors["cls.predictions.bias"] = Tensor::zeros({40});
  tensors["cls.predictions.transform.LayerNorm.gamma"] = Tensor::zeros({16});
  tensors["cls.seq_relationship.weight"] = Tensor::zeros({2, 16});
  write(tensors);
  expect_same_bits(*model_, *load());
  EXPECT_EQ(report_.ignored.size(), 4u);
  EXPECT_TRUE(said_.empty());
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

  write(good);
  expect_error([&] { load({.num_labels = 5}); }, ErrorCode::bad_input, "tensor \"classifier.bias\" is f32 [2]");
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
  expect_refused(ErrorCode::not_found,
                 "has no config.json; a model folder holds config.json, model.safetensors and vocab.txt");
  model_->config.to_json().save(folder_ / "config.json");
  expect_refused(ErrorCode::not_found, "has no model.safetensors");
  expect_error([&] { nn::bert_from_pretrained(folder_ / "nowhere"); }, ErrorCode::not_found,
               "nowhere has no config.json");
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
