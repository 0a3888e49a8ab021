#include "train/checkpoint.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/safetensors.h"
#include "core/io/staged_folder.h"
#include "core/log.h"
#include "core/runtime/runtime.h"
#include "data/collator.h"
#include "nn/pretrained.h"

namespace sinter::train {
namespace {

constexpr std::int64_t kFormatVersion = 1;
constexpr JsonStyle kSorted{.sort_keys = true};

std::string vocabulary_text(const data::BertTokenizer& tokenizer) {
  std::string text;
  for (const std::string& token : tokenizer.vocabulary()) text += token + "\n";
  return text;
}

Json tokenizer_config(const data::BertTokenizer& tokenizer, std::int64_t max_length) {
  const data::BertTokenizerOptions& options = tokenizer.options();
  return Json::object({
      {"cls_token", "[CLS]"},
      {"do_lower_case", options.do_lower_case},
      {"mask_token", "[MASK]"},
      {"model_max_length", max_length},
      {"pad_token", "[PAD]"},
      {"sep_token", "[SEP]"},
      {"strip_accents", options.strip_accents ? Json(*options.strip_accents) : Json()},
      {"tokenize_chinese_chars", options.tokenize_chinese_chars},
      {"tokenizer_class", "BertTokenizer"},
      {"unk_token", "[UNK]"},
  });
}

/// SHA-256 of all token ids, types and labels, in hexadecimal. A column that is absent counts like one without rows.
std::string fingerprint(const data::Dataset& dataset) {
  Sha256 hash;
  const auto add = [&](const auto& values) {
    const std::uint64_t count = values.size();
    hash.update(&count, sizeof(count));
    hash.update(values.data(), count * sizeof(values[0]));
  };
  for (const char* name : {"input_ids", "token_type_ids"}) {
    static const data::Lists kNone;
    const data::Lists& lists = dataset.has_column(name) ? dataset.column(name).lists() : kNone;
    add(lists.offsets);
    add(lists.values);
  }
  add(data::labels_of(dataset));
  return hash.hex_digest();
}

/// What must be equal for a run to go on bit for bit, by name.
Json run_facts(const RunParts& run) {
  const TrainingArguments& args = run.args;
  return Json::object({
      {"per_device_train_batch_size", args.per_device_train_batch_size},
      {"gradient_accumulation_steps", args.gradient_accumulation_steps},
      {"dataloader_drop_last", args.dataloader_drop_last},
      {"seed", static_cast<std::int64_t>(args.seed)},
      {"data_seed", static_cast<std::int64_t>(args.data_seed.value_or(args.seed))},
      {"train_samples", run.dataset.size()},
      {"train_data_sha256", fingerprint(run.dataset)},
  });
}

/// Arguments that only say where files go and what is shown.
constexpr std::string_view kCosmetic[] = {"output_dir", "overwrite_output_dir", "logging_strategy", "logging_steps",
                                          "eval_strategy", "eval_steps", "save_strategy", "save_steps",
                                          "save_total_limit", "disable_tqdm", "per_device_eval_batch_size"};

/// Says in one line each what differs from the run that wrote the checkpoint, so that nobody takes the result for its.
void announce_changes(const Json& saved, const Json& now, const std::string& saved_cpu) {
  for (const auto& [key, value] : now.items()) {
    if (std::find(std::begin(kCosmetic), std::end(kCosmetic), key) != std::end(kCosmetic)) continue;
    const Json* before = saved.find(key);
    if (before != nullptr && *before != value)
      log_info("resuming with " + key + " = " + value.dump() + "; the checkpoint's run had " + before->dump());
  }
  if (const std::string cpu = Runtime::instance().backend(Device::cpu()).description; cpu != saved_cpu)
    log_info("resuming with the " + cpu + " kernels; the checkpoint's run had " + saved_cpu + ", whose bits differ");
}

Json sinter_state(const RunParts& run) {
  const TrainerState& state = run.state;
  Json json = Json::object({
      {"format_version", kFormatVersion},
      {"run", run_facts(run)},
      {"cpu", Runtime::instance().backend(Device::cpu()).description},
      {"optimizer_steps", run.optimizer.steps()},
      {"loss_since_log", state.loss_since_log},
      {"updates_since_log", state.updates_since_log},
      {"total_loss", state.total_loss},
      {"seconds", state.seconds},
  });
  return json;
}

void write_optimizer(optim::AdamW& optimizer, OutputFile& out) {
  std::vector<SafetensorsTensor> tensors;
  const auto state = optimizer.state_tensors();
  for (const auto& [name, tensor] : state)
    tensors.push_back({name, tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, tensor.data()});
  write_safetensors(out, tensors);
}

void check_same_run(const std::filesystem::path& file, const Json& saved, const Json& now) {
  for (const auto& [key, value] : now.items())
    if (saved.at(key) != value)
      fail(ErrorCode::usage, file.string(), ": the run had ", key, " = ", saved.at(key).dump(), ", this one has ",
           value.dump(), "; a run resumes bit for bit only with the same data and batches");
}

}  // namespace

void save_checkpoint(const std::filesystem::path& path, const RunParts& run) {
  StagedFolder folder(path);
  folder.write("config.json", run.model.config.to_json().dump(kSorted) + "\n");
  folder.write("model.safetensors", [&](OutputFile& out) { nn::write_weights(run.model, out); });
  if (run.tokenizer != nullptr) {
    folder.write("vocab.txt", vocabulary_text(*run.tokenizer));
    folder.write("tokenizer_config.json",
                 tokenizer_config(*run.tokenizer, run.model.config.max_position_embeddings).dump(kSorted) + "\n");
  }
  folder.write("optimizer.safetensors", [&](OutputFile& out) { write_optimizer(run.optimizer, out); });
  folder.write("training_args.json", run.args.to_json().dump() + "\n");
  folder.write("sinter_state.json", sinter_state(run).dump() + "\n");
  folder.write("trainer_state.json", run.state.to_hf_json().dump(kSorted) + "\n");
  folder.commit(Json::object({{"step", run.state.global_step}}));
}

void load_checkpoint(const std::filesystem::path& folder, const RunParts& run) {
  if (!std::filesystem::is_directory(folder))
    fail(ErrorCode::not_found, "Can't find a valid checkpoint at ", folder.string());
  if (const auto faults = verify_manifest(folder); !faults.empty())
    fail(ErrorCode::bad_input, "Can't find a valid checkpoint at ", folder.string(), ": ", faults.front());
  const std::filesystem::path state_file = folder / "sinter_state.json";
  const Json state = Json::load(state_file);
  if (state.get<std::int64_t>("format_version") != kFormatVersion)
    state.refuse("format_version", "be 1; this sinter reads no other");
  check_same_run(state_file, state.at("run"), run_facts(run));
  announce_changes(Json::load(folder / "training_args.json"), run.args.to_json(), state.get<std::string>("cpu"));
  nn::load_weights(run.model, folder / "model.safetensors", true);
  const SafetensorsFile moments(folder / "optimizer.safetensors");
  run.optimizer.load_state(
      [&](const std::string& name) {
        const SafetensorsEntry& entry = moments.at(name);
        Tensor tensor = Tensor::empty(Shape(entry.shape), {entry.dtype});
        moments.read(name, tensor.data(), entry.bytes());
        return tensor;
      },
      state.get<std::int64_t>("optimizer_steps", 0));
  run.state.read_hf_json(Json::load(folder / "trainer_state.json"));
  run.state.loss_since_log = state.get<double>("loss_since_log");
  run.state.updates_since_log = state.get<std::int64_t>("updates_since_log", 0);
  run.state.total_loss = state.get<double>("total_loss");
  run.state.seconds = state.get<double>("seconds");
}

void save_model(const std::filesystem::path& folder, const nn::BertForSequenceClassification& model,
                const data::BertTokenizer* tokenizer) {
  nn::save_pretrained(model, folder);
  if (tokenizer == nullptr) return;
  write_file_atomically(folder / "vocab.txt", vocabulary_text(*tokenizer));
  tokenizer_config(*tokenizer, model.config.max_position_embeddings).save(folder / "tokenizer_config.json", kSorted);
}

std::vector<CheckpointFolder> list_checkpoints(const std::filesystem::path& output_dir) {
  std::vector<CheckpointFolder> found;
  if (!std::filesystem::is_directory(output_dir)) return found;
  constexpr std::string_view kPrefix = "checkpoint-";
  for (const auto& entry : std::filesystem::directory_iterator(output_dir)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || !name.starts_with(kPrefix)) continue;
    std::int64_t step = -1;
    const char* end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + kPrefix.size(), end, step);
    if (error == std::errc{} && stop == end && step >= 0) found.push_back({step, entry.path()});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  return found;
}

std::optional<std::filesystem::path> newest_valid_checkpoint(const std::filesystem::path& output_dir) {
  std::vector<CheckpointFolder> folders = list_checkpoints(output_dir);
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    const std::vector<std::string> faults = verify_manifest(folder->path);
    if (faults.empty()) return folder->path;
    log_info(folder->path.string() + " is not valid and is passed over: " + faults.front());
  }
  return std::nullopt;
}

void rotate_checkpoints(const std::filesystem::path& output_dir, std::int64_t limit) {
  const std::vector<CheckpointFolder> folders = list_checkpoints(output_dir);
  const auto surplus = static_cast<std::int64_t>(folders.size()) - limit;
  for (std::int64_t i = 0; i < surplus; ++i) {
    const std::filesystem::path& victim = folders[static_cast<std::size_t>(i)].path;
    const std::filesystem::path trash = output_dir / (".tmp-trash-" + victim.filename().string());
    std::filesystem::rename(victim, trash);
    std::filesystem::remove_all(trash);
  }
}

}  // namespace sinter::train
