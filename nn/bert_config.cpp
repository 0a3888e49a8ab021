#include "nn/bert_config.h"

#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/io/json.h"
#include "core/io/shown.h"

namespace sinter::nn {
namespace {

constexpr std::int64_t kMaxSize = std::int64_t{1} << 31;
// No file's size bounds the classes of a new classifier, so this does.
constexpr std::int64_t kMaxLabels = std::int64_t{1} << 20;

using Labels = std::map<std::int64_t, std::string>;

/// "0", "1" ... as HF writes class numbers where JSON wants a text; -1 for anything else.
std::int64_t class_number(const std::string& text) {
  std::int64_t id = -1;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  const bool good = error == std::errc{} && id >= 0 && text == std::to_string(id);
  return good ? id : -1;
}

bool is_numbered_from_zero(const Labels& labels) {
  return labels.empty() || (labels.begin()->first == 0 &&
                            labels.rbegin()->first == static_cast<std::int64_t>(labels.size()) - 1);
}

/// The table under `key`; nullptr when it is absent, null or empty.
const Json* find_table(const Json& json, const char* key) {
  const Json* table = json.find(key);
  return table == nullptr || table->is_null() || json.items(key).empty() ? nullptr : table;
}

Labels read_id2label(const Json& json) {
  Labels labels;
  const Json* table = find_table(json, "id2label");
  if (table == nullptr) return labels;
  for (const auto& [key, value] : table->items()) {
    const std::int64_t id = class_number(key);
    if (id < 0) json.refuse("id2label", "have class numbers as keys, not \"" + shown(key) + "\"");
    labels[id] = table->get<std::string>(key);
  }
  return labels;
}

/// Reads label2id, whose numbers some tools write as texts. Where id2label is there, the two must agree, except that
/// label2id may have kept HF's default names, as it does when a program sets id2label alone.
void read_label2id(const Json& json, Labels& labels) {
  const Json* table = find_table(json, "label2id");
  if (table == nullptr) return;
  const bool only_source = labels.empty();
  for (const auto& [name, value] : table->items()) {
    const std::int64_t id = value.is_string() ? class_number(value.as<std::string>()) : value.as<std::int64_t>();
    if (only_source) {
      if (id < 0 || !labels.emplace(id, name).second) table->refuse(name, "be a class number that no other name has");
    } else if (const auto named = labels.find(id);
               (named == labels.end() || named->second != name) && name != "LABEL_" + std::to_string(id)) {
      table->refuse(name, "be the class that id2label gives this name");
    }
  }
}

Labels read_labels(const Json& json) {
  Labels labels = read_id2label(json);
  const char* source = labels.empty() ? "label2id" : "id2label";
  read_label2id(json, labels);
  std::int64_t missing = 0;
  while (labels.contains(missing)) ++missing;
  if (!is_numbered_from_zero(labels))
    json.refuse(source, "name every class from 0 on; " + std::to_string(missing) + " is missing");
  return labels;
}

/// Refuses what has BERT's sizes and computes something else.
void refuse_other_models(const Json& json) {
  if (json.get_or<std::string>("model_type", "bert") != "bert")
    json.refuse("model_type", "be \"bert\"; sinter has no other model");
  if (const Json* names = json.find("architectures"); names != nullptr && !names->is_null())
    for (const Json& name : json.elements("architectures"))
      if (const std::string text = name.as<std::string>(); !text.starts_with("Bert"))
        fail(ErrorCode::bad_input, json.source(), ": architectures is \"", shown(text),
             "\", it must name a BERT, such as \"BertForSequenceClassification\"; sinter has no other model");
  if (json.get_or<std::string>("position_embedding_type", "absolute") != "absolute")
    json.refuse("position_embedding_type", "be \"absolute\"; relative positions are not built");
  for (const char* decoder : {"is_decoder", "add_cross_attention"})
    if (json.get_or<bool>(decoder, false)) json.refuse(decoder, "be false; sinter's BERT is an encoder");
  if (find_table(json, "pruned_heads") != nullptr) json.refuse("pruned_heads", "be empty; pruned heads are not built");
}

}  // namespace

std::string BertConfig::label_name(std::int64_t id) const {
  const auto found = id2label.find(id);
  return found == id2label.end() ? "LABEL_" + std::to_string(id) : found->second;
}

BertConfig BertConfig::from_json(const Json& json) {
  BertConfig c;
  refuse_other_models(json);
  const auto size = [&](const char* key, std::int64_t fallback, std::int64_t low = 1) {
    return json.get_or<std::int64_t>(key, fallback, low, kMaxSize);
  };
  c.vocab_size = size("vocab_size", c.vocab_size);
  c.hidden_size = size("hidden_size", c.hidden_size);
  c.num_hidden_layers = size("num_hidden_layers", c.num_hidden_layers);
  c.num_attention_heads = size("num_attention_heads", c.num_attention_heads);
  c.intermediate_size = size("intermediate_size", c.intermediate_size);
  c.max_position_embeddings = size("max_position_embeddings", c.max_position_embeddings);
  c.type_vocab_size = size("type_vocab_size", c.type_vocab_size);
  c.hidden_act = json.get_or<std::string>("hidden_act", c.hidden_act);
  c.hidden_dropout_prob = json.get_or<double>("hidden_dropout_prob", c.hidden_dropout_prob);
  c.attention_probs_dropout_prob = json.get_or<double>("attention_probs_dropout_prob", c.attention_probs_dropout_prob);
  c.initializer_range = json.get_or<double>("initializer_range", c.initializer_range);
  c.layer_norm_eps = json.get_or<double>("layer_norm_eps", c.layer_norm_eps);
  c.pad_token_id = size("pad_token_id", c.pad_token_id, 0);
  if (const Json* p = json.find("classifier_dropout"); p != nullptr && !p->is_null())
    c.classifier_dropout = json.get<double>("classifier_dropout");
  c.id2label = read_labels(json);
  const auto named = static_cast<std::int64_t>(c.id2label.size());
  c.num_labels = json.get_or<std::int64_t>("num_labels", named == 0 ? c.num_labels : named, 1, kMaxLabels);
  c.problem_type = json.get_or<std::string>("problem_type", "");
  try {
    c.validate();
  } catch (const Error& error) {  // the same rule, broken by a file
    fail(ErrorCode::bad_input, json.source().empty() ? "config.json" : json.source(), ": ", error.what());
  }
  return c;
}

void BertConfig::validate() const {
  const auto require = [](bool holds, const char* field, auto value, const char* rule) {
    if (!holds) fail(ErrorCode::usage, field, " is ", value, ", it must ", rule);
  };
  const auto require_size = [&](const char* field, std::int64_t value) {
    require(value >= 1 && value <= kMaxSize, field, value, "lie between 1 and 2147483648");
  };
  require_size("vocab_size", vocab_size);
  require_size("hidden_size", hidden_size);
  require_size("num_hidden_layers", num_hidden_layers);
  require_size("num_attention_heads", num_attention_heads);
  require_size("intermediate_size", intermediate_size);
  require_size("max_position_embeddings", max_position_embeddings);
  require_size("type_vocab_size", type_vocab_size);
  require(num_labels >= 1 && num_labels <= kMaxLabels, "num_labels", num_labels, "lie between 1 and 1048576");
  require(hidden_size % num_attention_heads == 0, "hidden_size", hidden_size, "be a multiple of num_attention_heads");
  const auto require_probability = [&](const char* field, double p) {
    require(p >= 0 && p < 1, field, p, "lie in [0, 1)");
  };
  require_probability("hidden_dropout_prob", hidden_dropout_prob);
  require_probability("attention_probs_dropout_prob", attention_probs_dropout_prob);
  if (classifier_dropout) require_probability("classifier_dropout", *classifier_dropout);
  require(layer_norm_eps > 0 && std::isfinite(layer_norm_eps), "layer_norm_eps", layer_norm_eps,
          "be positive and finite");
  require(initializer_range >= 0 && std::isfinite(initializer_range), "initializer_range", initializer_range,
          "be finite and not negative");
  require(pad_token_id >= 0 && pad_token_id < vocab_size, "pad_token_id", pad_token_id, "be smaller than vocab_size");
  require(hidden_act == "gelu" || hidden_act == "gelu_new" || hidden_act == "relu" || hidden_act == "silu",
          "hidden_act", "\"" + shown(hidden_act) + "\"", "be gelu, gelu_new, relu or silu");
  require(problem_type.empty() || problem_type == "regression" || problem_type == "single_label_classification" ||
              problem_type == "multi_label_classification",
          "problem_type", "\"" + shown(problem_type) + "\"",
          "be regression, single_label_classification or multi_label_classification");
  require(id2label.empty() || static_cast<std::int64_t>(id2label.size()) == num_labels, "num_labels", num_labels,
          "be the number of names in id2label");
  require(is_numbered_from_zero(id2label), "id2label", "a table with gaps", "name every class from 0 on");
}

Json BertConfig::to_json() const {
  Json json = Json::object();
  json.set("architectures", Json::array({"BertForSequenceClassification"}));
  json.set("attention_probs_dropout_prob", attention_probs_dropout_prob);
  json.set("classifier_dropout", classifier_dropout ? Json(*classifier_dropout) : Json());
  json.set("hidden_act", hidden_act);
  json.set("hidden_dropout_prob", hidden_dropout_prob);
  json.set("hidden_size", hidden_size);
  Json id_to_label = Json::object(), label_to_id = Json::object();
  for (std::int64_t id = 0; id < num_labels; ++id) {
    id_to_label.set(std::to_string(id), label_name(id));
    label_to_id.set(label_name(id), id);
  }
  json.set("id2label", id_to_label);
  json.set("initializer_range", initializer_range);
  json.set("intermediate_size", intermediate_size);
  json.set("label2id", label_to_id);
  json.set("layer_norm_eps", layer_norm_eps);
  json.set("max_position_embeddings", max_position_embeddings);
  json.set("model_type", "bert");
  json.set("num_attention_heads", num_attention_heads);
  json.set("num_hidden_layers", num_hidden_layers);
  json.set("pad_token_id", pad_token_id);
  json.set("position_embedding_type", "absolute");
  if (!problem_type.empty()) json.set("problem_type", problem_type);
  json.set("torch_dtype", "float32");
  json.set("type_vocab_size", type_vocab_size);
  json.set("use_cache", true);
  json.set("vocab_size", vocab_size);
  return json;
}

}  // namespace sinter::nn
