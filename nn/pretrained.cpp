#include "nn/pretrained.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/json.h"
#include "core/io/safetensors.h"
#include "core/log.h"

namespace sinter::nn {
namespace {

/// Tensors of pre-training heads and old buffers, which a classifier does not use.
bool is_ignored(std::string_view name) {
  return name.starts_with("cls.") || name.ends_with("embeddings.position_ids");
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

void read_into(const SafetensorsFile& file, const SafetensorsEntry& entry, Tensor& target) {
  const NoGradGuard guard;
  Tensor stored = Tensor::empty(Shape(entry.shape), {entry.dtype});
  file.read(entry.name, stored.data(), entry.bytes());
  target.copy_(stored);
}

/// Refuses a config.json whose sizes the file cannot fill, before a model of these sizes takes memory.
void check_size(const BertConfig& c, const std::filesystem::path& weights) {
  const auto h = static_cast<double>(c.hidden_size), i = static_cast<double>(c.intermediate_size);
  const double rows = static_cast<double>(c.vocab_size) + static_cast<double>(c.max_position_embeddings) +
                      static_cast<double>(c.type_vocab_size);
  const double elements = rows * h + static_cast<double>(c.num_hidden_layers) * (4 * h * h + 2 * h * i) + h * h;
  const auto bytes = std::filesystem::file_size(weights);
  if (2 * elements > static_cast<double>(bytes))  // no dtype has less than 2 bytes
    fail(ErrorCode::bad_input, weights.string(), " has ", bytes, " bytes, the model of config.json has at least ",
         elements, " parameters; config.json and the weights do not belong together");
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

}  // namespace

LoadReport load_weights(BertForSequenceClassification& model, const std::filesystem::path& path, bool require_all) {
  const SafetensorsFile file(path);
  ParameterList parameters = model.named_parameters();
  std::vector<bool> found(parameters.size(), false);
  std::vector<std::pair<const SafetensorsEntry*, std::size_t>> plan;
  LoadReport report;
  for (const SafetensorsEntry& entry : file.tensors()) {
    if (is_ignored(entry.name)) {
      report.ignored.push_back(entry.name);
      continue;
    }
    const std::string name = model_name(entry.name);
    const auto at =
        std::find_if(parameters.begin(), parameters.end(), [&](const Parameter& p) { return p.name == name; });
    if (at == parameters.end())
      fail(ErrorCode::bad_input, path.string(), ": tensor \"", entry.name,
           "\" is no parameter of this BERT classifier with ", model.config.num_hidden_layers,
           " layers; config.json and the weights do not belong together");
    if (!kernels::is_floating(entry.dtype) || Shape(entry.shape) != at->tensor.shape())
      fail(ErrorCode::bad_input, path.string(), ": tensor \"", entry.name, "\" is ", kernels::name(entry.dtype), " ",
           Shape(entry.shape), ", the model of config.json needs a floating tensor ", at->tensor.shape());
    const auto index = static_cast<std::size_t>(at - parameters.begin());
    if (found[index]) fail(ErrorCode::bad_input, path.string(), ": two tensors are ", name);
    found[index] = true;
    plan.emplace_back(&entry, index);
  }
  for (std::size_t i = 0; i < parameters.size(); ++i)
    if (!found[i]) report.newly_initialized.push_back(parameters[i].name);
  for (const std::string& name : report.newly_initialized)
    if (require_all || !name.starts_with("classifier."))
      fail(ErrorCode::bad_input, path.string(), ": tensor \"", name, "\" is missing");
  for (const auto& [entry, index] : plan) read_into(file, *entry, parameters[index].tensor);
  return report;
}

std::unique_ptr<BertForSequenceClassification> bert_from_pretrained(const std::filesystem::path& folder,
                                                                    const PretrainedOptions& options,
                                                                    LoadReport* report) {
  const std::filesystem::path config_path = folder / "config.json", weights_path = folder / "model.safetensors";
  for (const auto& path : {config_path, weights_path})
    if (!std::filesystem::exists(path))
      fail(ErrorCode::not_found, "model folder ", folder.string(), " has no ", path.filename().string(),
           "; a model folder holds config.json, model.safetensors and vocab.txt");
  BertConfig config = BertConfig::from_json(Json::load(config_path));
  check_size(config, weights_path);
  if (options.num_labels && *options.num_labels != config.num_labels) {
    config.num_labels = *options.num_labels;
    config.id2label.clear();
  }
  auto model = std::make_unique<BertForSequenceClassification>(config);
  init_weights(model->classifier, config.initializer_range, options.seed);
  LoadReport found = load_weights(*model, weights_path, false);
  if (!found.newly_initialized.empty())
    log_info("newly initialised, to be trained: " + joined(found.newly_initialized));
  if (report != nullptr) *report = std::move(found);
  return model;
}

void write_weights(const BertForSequenceClassification& model, OutputFile& out) {
  const NoGradGuard guard;
  std::vector<SafetensorsTensor> tensors;
  Tensors alive;
  for (const Parameter& parameter : model.named_parameters()) {
    alive.push_back(parameter.tensor.detach().contiguous());
    const Tensor& tensor = alive.back();
    tensors.push_back({parameter.name, tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, tensor.data()});
  }
  write_safetensors(out, tensors, {{"format", "pt"}});
}

void save_pretrained(const BertForSequenceClassification& model, const std::filesystem::path& folder) {
  create_folders(folder);
  write_file_atomically(folder / "model.safetensors", [&](OutputFile& out) { write_weights(model, out); });
  model.config.to_json().save(folder / "config.json", {.sort_keys = true});
}

}  // namespace sinter::nn
