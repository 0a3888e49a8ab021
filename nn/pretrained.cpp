#include "nn/pretrained.h"

#include <algorithm>
#include <string_view>
#include <system_error>
#include <unordered_map>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/hub_cache.h"
#include "core/io/json.h"
#include "core/io/safetensors_set.h"
#include "core/io/shown.h"
#include "core/log.h"

namespace sinter::nn {
namespace fs = std::filesystem;
namespace {

/// Which liberties a file may take.
struct LoadRules {
  bool require_all = false;         ///< every parameter is in the file
  bool ignore_mismatched = false;   ///< a classifier of another size counts as absent
  bool other_classifier = false;    ///< "classifier" is the head of another task
};

bool is_classifier(std::string_view name) { return name.starts_with("classifier."); }

/// Tensors of other heads and old buffers, which a sequence classifier does not use.
bool is_ignored(std::string_view name, const LoadRules& rules) {
  return name.starts_with("cls.") || name.starts_with("qa_outputs.") || name.ends_with("embeddings.position_ids") ||
         (rules.other_classifier && is_classifier(name));
}

/// A name of a file as the model has it: gamma and beta of the first release's LayerNorms renamed, "bert." added where
/// the file holds a bare BertModel.
std::string model_name(std::string name) {
  for (const auto& [old_suffix, suffix] : {std::pair{"LayerNorm.gamma", "LayerNorm.weight"},
                                           std::pair{"LayerNorm.beta", "LayerNorm.bias"}})
    if (name.ends_with(old_suffix))
      name.replace(name.size() - std::string_view(old_suffix).size(), std::string::npos, suffix);
  for (const char* part : {"embeddings.", "encoder.", "pooler."})
    if (name.starts_with(part)) return "bert." + name;
  return name;
}

std::string quoted(const std::string& name) { return "\"" + shown(name) + "\""; }

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (std::size_t i = 0; i < shape.size() && i < 8; ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return "[" + text + (shape.size() > 8 ? ", ..." : "") + "]";
}

/// What a file fills, found before the first parameter is touched.
class LoadPlan {
 public:
  LoadPlan(BertForSequenceClassification& model, const SafetensorsSet& weights, const LoadRules& rules)
      : weights_(weights), rules_(rules), model_(model), parameters_(model.named_parameters()) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) places_[parameters_[i].name] = i;
    sources_.resize(parameters_.size());
    for (const SafetensorsSet::Tensor& tensor : weights.tensors()) place(tensor);
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (sources_[i].entry == nullptr) require_absent_is_fine(parameters_[i].name);
  }

  LoadReport fill() {
    const NoGradGuard guard;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const SafetensorsSet::Tensor& source = sources_[i];
      if (source.entry == nullptr) continue;
      Tensor& target = parameters_[i].tensor;
      const bool as_it_stands =
          source.entry->dtype == target.dtype() && target.is_contiguous() && target.device().is_cpu();
      Tensor stored = as_it_stands ? target : Tensor::empty(target.shape(), {source.entry->dtype});
      source.file->read(source.entry->name, stored.data(), source.entry->bytes());
      if (as_it_stands)
        target.storage()->mark_written("load_weights");
      else
        target.copy_(stored);
    }
    return std::move(report_);
  }

 private:
  void place(const SafetensorsSet::Tensor& tensor) {
    const SafetensorsEntry& entry = *tensor.entry;
    const std::string file = tensor.file->path().string();
    if (is_ignored(entry.name, rules_)) {
      report_.ignored.push_back(entry.name);
      return;
    }
    const std::string name = model_name(entry.name);
    const auto at = places_.find(name);
    if (at == places_.end())
      fail(ErrorCode::bad_input, file, ": tensor ", quoted(entry.name), " is no parameter of this BERT classifier ",
           "with ", model_.config.num_hidden_layers, " layers; config.json and the weights do not belong together");
    const Shape& wanted = parameters_[at->second].tensor.shape();
    if (!kernels::is_floating(entry.dtype) || !std::ranges::equal(entry.shape, wanted)) {
      if (is_classifier(name) && !rules_.require_all && classes_differ(entry, wanted)) {
        if (!rules_.ignore_mismatched) fail_classes(file, entry, wanted[0]);
        report_.ignored.push_back(entry.name);
        return;
      }
      fail(ErrorCode::bad_input, file, ": tensor ", quoted(entry.name), " is ", kernels::name(entry.dtype), " ",
           shape_text(entry.shape), ", the model of config.json needs a floating tensor ", wanted);
    }
    if (sources_[at->second].entry != nullptr) fail(ErrorCode::bad_input, file, ": two tensors are ", name);
    sources_[at->second] = tensor;
  }

  static bool classes_differ(const SafetensorsEntry& entry, const Shape& wanted) {
    return kernels::is_floating(entry.dtype) && entry.shape.size() == static_cast<std::size_t>(wanted.rank()) &&
           std::equal(entry.shape.begin() + 1, entry.shape.end(), wanted.begin() + 1);
  }

  [[noreturn]] static void fail_classes(const std::string& file, const SafetensorsEntry& entry, std::int64_t wanted) {
    fail(ErrorCode::bad_input, file, ": its classifier has ", entry.shape[0], " classes (tensor ", quoted(entry.name),
         " is ", shape_text(entry.shape), "), num_labels is ", wanted, "; give num_labels = ", entry.shape[0],
         ", or ignore_mismatched_sizes for a newly initialised classifier of ", wanted);
  }

  void require_absent_is_fine(const std::string& name) {
    if (rules_.require_all || !(is_classifier(name) || name.starts_with("bert.pooler.")))
      fail(ErrorCode::bad_input, weights_.path().string(), ": tensor \"", name, "\" is missing");
    report_.newly_initialized.push_back(name);
  }

  const SafetensorsSet& weights_;
  const LoadRules rules_;
  BertForSequenceClassification& model_;
  ParameterList parameters_;
  std::unordered_map<std::string, std::size_t> places_;  // name -> index in parameters_
  std::vector<SafetensorsSet::Tensor> sources_;          // of each parameter; no entry: not in the file
  LoadReport report_;
};

/// Refuses a config.json whose sizes the file cannot fill, before a model of these sizes takes memory.
void check_size(const BertConfig& c, const SafetensorsSet& weights) {
  const auto h = static_cast<double>(c.hidden_size), i = static_cast<double>(c.intermediate_size);
  const double rows = static_cast<double>(c.vocab_size) + static_cast<double>(c.max_position_embeddings) +
                      static_cast<double>(c.type_vocab_size);
  const double elements = rows * h + static_cast<double>(c.num_hidden_layers) * (4 * h * h + 2 * h * i);
  if (2 * elements > static_cast<double>(weights.bytes()))  // no dtype has less than 2 bytes
    fail(ErrorCode::bad_input, weights.path().string(), " has ", weights.bytes(),
         " bytes of tensors, the model of config.json has at least ", elements,
         " parameters; config.json and the weights do not belong together");
}

/// The heads of these models are called "classifier" too, but classify something else.
bool has_other_classifier(const Json& config) {
  const Json* names = config.find("architectures");
  if (names == nullptr || names->is_null()) return false;
  return std::ranges::any_of(names->elements(), [](const Json& name) {
    const std::string text = name.as<std::string>();
    return text == "BertForTokenClassification" || text == "BertForMultipleChoice";
  });
}

BertConfig with_options(BertConfig config, const PretrainedOptions& options) {
  const auto named = static_cast<std::int64_t>(options.id2label.size());
  const std::int64_t num_labels = options.num_labels.value_or(named > 0 ? named : config.num_labels);
  if (num_labels != config.num_labels) config.id2label.clear();
  config.num_labels = num_labels;
  if (named > 0) config.id2label = options.id2label;
  if (!options.problem_type.empty()) config.problem_type = options.problem_type;
  if (options.hidden_dropout_prob) config.hidden_dropout_prob = *options.hidden_dropout_prob;
  if (options.attention_probs_dropout_prob)
    config.attention_probs_dropout_prob = *options.attention_probs_dropout_prob;
  if (options.classifier_dropout) config.classifier_dropout = options.classifier_dropout;
  config.validate();
  return config;
}

/// The weights of a model whose config.json is in `folder`.
fs::path find_weights(const std::string& name_or_path, const fs::path& folder) {
  if (const auto weights = SafetensorsSet::find_in(folder)) return *weights;
  const fs::path pickle = folder / "pytorch_model.bin";
  std::error_code unreadable;
  if (fs::exists(pickle, unreadable))
    fail(ErrorCode::bad_input, pickle.string(), " is a pickle, which could run any program and is never read; ",
         "convert it with: python -c \"import torch, safetensors.torch as s; s.save_file({k: v.contiguous().clone() ",
         "for k, v in torch.load('", pickle.string(), "', weights_only=True).items()}, '",
         (folder / "model.safetensors").string(), "', {'format': 'pt'})\"");
  for (const char* other : {"pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"})
    if (fs::exists(folder / other, unreadable))
      fail(ErrorCode::bad_input, folder.string(), " has its weights only as ", other,
           ", sinter reads safetensors; open it with transformers and write it with save_pretrained");
  // Neither is there, and this says so.
  return resolve_pretrained(name_or_path, {"model.safetensors", "model.safetensors.index.json"});
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

std::shared_ptr<BertForSequenceClassification> AutoModelForSequenceClassification::from_pretrained(
    const std::string& name_or_path, const PretrainedOptions& options, LoadReport* report) {
  const fs::path folder = resolve_pretrained(name_or_path, "config.json");
  const Json json = Json::load(folder / "config.json");
  const BertConfig config = with_options(BertConfig::from_json(json), options);
  const SafetensorsSet weights(find_weights(name_or_path, folder));
  check_size(config, weights);
  const auto model = std::make_shared<BertForSequenceClassification>(config);
  for (Module* part : {static_cast<Module*>(&model->classifier), static_cast<Module*>(&model->bert.pooler)})
    init_weights(*part, config.initializer_range, options.seed);
  LoadReport found = LoadPlan(*model, weights, {.ignore_mismatched = options.ignore_mismatched_sizes,
                                                .other_classifier = has_other_classifier(json)})
                         .fill();
  if (!found.newly_initialized.empty())
    log_info(name_or_path + ": newly initialised, to be trained before use: " + joined(found.newly_initialized));
  if (report != nullptr) *report = std::move(found);
  return model;
}

std::string check_vocabulary(std::int64_t tokens, const BertConfig& config) {
  if (tokens > config.vocab_size)
    fail(ErrorCode::bad_input, "the vocabulary has ", tokens, " tokens, the model embeds only ", config.vocab_size,
         " (vocab_size); tokenizer and model do not belong together");
  if (tokens == config.vocab_size) return "";
  return "the vocabulary has " + std::to_string(tokens) + " tokens, the model embeds " +
         std::to_string(config.vocab_size) + " (vocab_size); do tokenizer and model belong together?";
}

LoadReport load_weights(BertForSequenceClassification& model, const fs::path& file, bool require_all) {
  const SafetensorsSet weights(file);
  return LoadPlan(model, weights, {.require_all = require_all}).fill();
}

void write_weights(const BertForSequenceClassification& model, OutputFile& out) {
  const NoGradGuard guard;
  std::vector<SafetensorsTensor> tensors;
  Tensors alive;
  for (const Parameter& parameter : model.named_parameters()) {
    alive.push_back(parameter.tensor.detach().to(Device::cpu()).contiguous());
    const Tensor& tensor = alive.back();
    tensors.push_back({parameter.name, tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, tensor.data()});
  }
  write_safetensors(out, tensors, {{"format", "pt"}});
}

void save_pretrained(const BertForSequenceClassification& model, const fs::path& folder) {
  create_folders(folder);
  write_file_atomically(folder / "model.safetensors", [&](OutputFile& out) { write_weights(model, out); });
  model.config.to_json().save(folder / "config.json", {.sort_keys = true});
}

}  // namespace sinter::nn
