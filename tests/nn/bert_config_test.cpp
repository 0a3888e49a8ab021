// config.json: what it may say, and the sentence for what it may not.
#include "nn/bert_config.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/io/json.h"
#include "core/runtime/runtime.h"
#include "nn/bert.h"
#include "tests/core/expect_error.h"
#include "tests/nn/bad_configs.h"

namespace sinter::nn {
namespace {

TEST(BertConfig, BadValuesNameFieldValueAndRule) {
  CachingAllocator& allocator = Runtime::instance().allocator(Device::cpu());
  const std::size_t before = allocator.stats().allocations;
  for (const testing::BadConfig& bad : testing::kBadConfigs) {
    try {
      BertConfig::from_json(Json::parse(bad.json, "config.json"));
      ADD_FAILURE() << "accepted: " << bad.json;
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_EQ(error.code(), ErrorCode::bad_input) << text;
      EXPECT_EQ(text.rfind("config.json: ", 0), 0u) << text;
      EXPECT_NE(text.find(bad.field), std::string::npos) << text << "\nwithout field " << bad.field;
      EXPECT_NE(text.find(std::string(" is ") + bad.value), std::string::npos)
          << text << "\nwithout value " << bad.value;
      EXPECT_NE(text.find(bad.rule), std::string::npos) << text << "\nwithout rule " << bad.rule;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    }
  }
  EXPECT_EQ(allocator.stats().allocations, before);
}

TEST(BertConfig, BadTextIsRefusedBeforeAnyValueIsRead) {
  for (const auto& c : testing::kBadConfigTexts) {
    SCOPED_TRACE(c.json);
    testing::expect_error([&] { BertConfig::from_json(Json::parse(c.json, "config.json")); }, ErrorCode::bad_input,
                          c.says);
  }
}

TEST(BertConfig, LabelsComeFromEitherTable) {
  const auto labels = [](const char* json) { return BertConfig::from_json(Json::parse(json, "config.json")).id2label; };
  const std::map<std::int64_t, std::string> expected = {{0, "no"}, {1, "yes"}};
  EXPECT_EQ(labels(R"({"id2label": {"1": "yes", "0": "no"}})"), expected);
  EXPECT_EQ(labels(R"({"label2id": {"yes": 1, "no": 0}})"), expected);
  EXPECT_EQ(labels(R"({"label2id": {"yes": "1", "no": "0"}, "id2label": {}})"), expected);
  EXPECT_EQ(labels(R"({"id2label": {"0": "no", "1": "yes"}, "label2id": {"no": 0, "yes": 1}})"), expected);
  EXPECT_EQ(labels(R"({"id2label": {"0": "no", "1": "yes"}, "label2id": {"LABEL_0": 0, "LABEL_1": 1}})"), expected);
  EXPECT_EQ(labels(R"({"id2label": {"0": "same", "1": "same"}, "label2id": {"same": 1}})").size(), 2u);
}

TEST(BertConfig, NotAnObject) {
  for (const char* text : {"[]", "3", "null", "\"bert\""})
    testing::expect_error([&] { BertConfig::from_json(Json::parse(text, "config.json")); }, ErrorCode::bad_input,
                          "it must be an object");
}

TEST(BertConfig, ConfigsMadeInAProgramFollowTheSameRules) {
  BertConfig config;
  config.validate();
  config.hidden_size = 770;
  testing::expect_usage_error([&] { BertForSequenceClassification model(config); },
                              "hidden_size is 770, it must be a multiple of num_attention_heads");
  config = {};
  config.vocab_size = -5;
  testing::expect_usage_error([&] { config.validate(); }, "vocab_size is -5");
  config = {};
  config.classifier_dropout = 1;
  testing::expect_usage_error([&] { config.validate(); }, "classifier_dropout is 1, it must lie in [0, 1)");
}

TEST(BertConfig, DefaultsAreBertBase) {
  const BertConfig c = BertConfig::from_json(Json::parse(R"({"unknown": {"deep": [1, 2]}, "pad_token_id": null,
                                                             "classifier_dropout": null, "id2label": null})",
                                                         "config.json"));
  EXPECT_EQ(c.vocab_size, 30522);
  EXPECT_EQ(c.hidden_size, 768);
  EXPECT_EQ(c.num_hidden_layers, 12);
  EXPECT_EQ(c.num_attention_heads, 12);
  EXPECT_EQ(c.head_size(), 64);
  EXPECT_EQ(c.intermediate_size, 3072);
  EXPECT_EQ(c.hidden_act, "gelu");
  EXPECT_EQ(c.hidden_dropout_prob, 0.1);
  EXPECT_EQ(c.max_position_embeddings, 512);
  EXPECT_EQ(c.type_vocab_size, 2);
  EXPECT_EQ(c.layer_norm_eps, 1e-12);
  EXPECT_EQ(c.initializer_range, 0.02);
  EXPECT_EQ(c.num_labels, 2);
  EXPECT_EQ(c.label_name(1), "LABEL_1");
}

TEST(BertConfig, RoundTrip) {
  const BertConfig c = BertConfig::from_json(Json::parse(
      R"({"vocab_size": 100, "hidden_size": 32, "num_attention_heads": 4, "hidden_act": "relu", "layer_norm_eps": 1e-5,
          "classifier_dropout": 0.3, "id2label": {"0": "negative", "1": "positive", "2": "neutral"},
          "problem_type": "multi_label_classification", "initializer_range": 0, "pad_token_id": 7})",
      "config.json"));
  EXPECT_EQ(c.num_labels, 3);
  EXPECT_EQ(c.label_name(2), "neutral");
  const Json json = c.to_json();
  EXPECT_EQ(BertConfig::from_json(json).to_json(), json);
  EXPECT_EQ(json.at("label2id").get<std::int64_t>("neutral"), 2);
  EXPECT_EQ(json.get<double>("classifier_dropout"), 0.3);
  EXPECT_EQ(json.get<std::string>("problem_type"), "multi_label_classification");
  EXPECT_EQ(json.get<std::int64_t>("pad_token_id"), 7);
  EXPECT_EQ(json.get<std::string>("model_type"), "bert");
}

}  // namespace
}  // namespace sinter::nn
