#include "train/checkpoint.h"

#include <algorithm>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/safetensors.h"
#include "core/io/staged_folder.h"
#include "core/log.h"
#include "core/runtime/runtime.h"
#include "data/auto_tokenizer.h"
#include "nn/bert.h"
#include "train/weights.h"

namespace sinter::train {
namespace {

constexpr std::int64_t kFormatVersion = 4;
constexpr JsonStyle kSorted{.sort_keys = true};

/// Arguments that only say where files go, what is shown and what is done around the training.
constexpr std::string_view kCosmetic[] = {"output_dir",
                                          "overwrite_output_dir",
                                          "do_train",
                                          "do_eval",
                                          "do_predict",
                                          "per_device_eval_batch_size",
                                          "auto_find_batch_size",
                                          "eval_strategy",
                                          "eval_delay",
                                          "eval_on_start",
                                          "prediction_loss_only",
                                          "logging_strategy",
                                          "logging_first_step",
                                          "disable_tqdm",
                                          "save_strategy",
                                          "save_total_limit",
                                          "save_only_model",
                                          "resume_from_checkpoint",
                                          "ignore_data_skip",
                                          "restore_callback_states_from_checkpoint",
                                          "full_determinism",
                                          "use_cpu",
                                          "deferred_embedding_update",
                                          "fp16_full_eval",
                                          "bf16_full_eval",
                                          "cuda_graphs",
                                          "ddp_bucket_cap_mb",
                                          "zero_stage",
                                          "device"};   // computed_on says more

/// Whose bits a run has: the backend with its libraries, and for a GPU its name.
std::string computes_on(Device device) {
  Runtime& runtime = Runtime::instance();
  const std::string backend = runtime.backend(device).description;
  return device.is_cpu() ? backend : runtime.device_name(device) + ", " + backend;
}

/// Says in one line each what differs from the run that wrote the checkpoint, so that nobody takes the result for its.
void announce_changes(const Json& saved, const Json& now, const std::string& saved_device) {
  for (const auto& [key, value] : now.items()) {
    if (std::find(std::begin(kCosmetic), std::end(kCosmetic), key) != std::end(kCosmetic)) continue;
    const Json* before = saved.find(key);
    if (before != nullptr && *before != value)
      log_info("resuming with " + key + " = " + value.dump() + "; the checkpoint's run had " + before->dump());
  }
  if (const std::string device = computes_on(Device::parse(now.get<std::string>("device"))); device != saved_device)
    log_info("resuming on " + device + "; the checkpoint's run was on " + saved_device + ", whose bits differ");
}

Json sinter_state(const RunParts& run) {
  return Json::object({
      {"format_version", kFormatVersion},
      {"run", run_facts(run)},
      {"computed_on", computes_on(Device::parse(run.args.device))},
      {"optimizer_steps", run.optimizer.steps()},
      {"plateau", run.plateau == nullptr ? Json() : run.plateau->state()},
      {"scaler", run.scaler == nullptr ? Json() : run.scaler->state()},
      {"state", run.state.to_sinter_json()},
  });
}

void write_optimizer(OptimizerStates states, OutputFile& out) {
  std::vector<SafetensorsTensor> tensors;
  for (auto& [name, tensor] : states) {
    tensor = tensor.to(Device::cpu());
    tensors.push_back({name, tensor.dtype(), {tensor.shape().begin(), tensor.shape().end()}, tensor.data()});
  }
  write_safetensors(out, tensors);
}

void read_optimizer(optim::Optimizer& optimizer, const std::filesystem::path& path, std::int64_t steps) {
  const SafetensorsFile file(path);
  optimizer.load_state(
      [&](const std::string& name) {
        const SafetensorsEntry& entry = file.at(name);
        Tensor tensor = Tensor::empty(Shape(entry.shape), {entry.dtype});
        file.read(name, tensor.data(), entry.bytes());
        return tensor;
      },
      steps);
}

void check_same_run(const std::filesystem::path& file, const Json& saved, const Json& now) {
  for (const auto& [key, value] : now.items())
    if (saved.at(key) != value)
      fail(ErrorCode::usage, file.string(), ": the run had ", key, " = ", saved.at(key).dump(), ", this one has ",
           value.dump(), "; a run goes on only with the data and the order that it began with");
}

void check_whole(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder))
    fail(ErrorCode::not_found, "Can't find a valid checkpoint at ", folder.string());
  if (const auto faults = verify_manifest(folder); !faults.empty())
    fail(ErrorCode::bad_input, "Can't find a valid checkpoint at ", folder.string(), ": ", faults.front());
}

/// Makes room for a checkpoint: a broken one that was passed over, or one in which somebody put files, is not deleted.
void move_aside_what_is_not_ours(const std::filesystem::path& folder) {
  const std::string reason = why_not_replaced(folder);
  if (reason.empty()) return;
  std::filesystem::path aside = folder.string() + ".aside";
  for (int i = 2; std::filesystem::exists(aside); ++i) aside = folder.string() + ".aside-" + std::to_string(i);
  std::filesystem::rename(folder, aside);
  log_info(reason + ": moved to " + aside.string());
}

/// Calls write(name, content) for what stands beside the weights.
template <class Write>
void write_small_files(const nn::Module& model, const data::BertTokenizer* tokenizer, const TrainingArguments& args,
                       Write&& write) {
  if (const auto* bert = dynamic_cast<const nn::BertForSequenceClassification*>(&model))
    write("config.json", bert->config.to_json().dump(kSorted) + "\n");
  if (tokenizer != nullptr)
    for (const auto& [name, content] : tokenizer->pretrained_files()) write(name, content);
  write("training_args.json", args.to_json().dump() + "\n");
}

}  // namespace

std::string fingerprint(const data::Dataset& dataset) {
  Sha256 hash;
  const auto add = [&](const auto& values) {
    const std::uint64_t count = values.size();
    hash.update(&count, sizeof(count));
    hash.update(values.data(), count * sizeof(values[0]));
  };
  for (const std::string& name : dataset.column_names()) {
    const data::Column& column = dataset.column(name);
    if (column.is_text()) continue;
    add(name);
    if (column.is_integer()) add(column.integers());
    if (column.is_real()) add(column.reals());
    if (!column.is_list()) continue;
    add(column.lists().offsets);
    add(column.lists().values);
  }
  return hash.hex_digest();
}

Json run_facts(const RunParts& run) {
  const TrainingArguments& args = run.args;
  Json facts = Json::object({
      {"seed", static_cast<std::int64_t>(args.seed)},
      {"data_seed", static_cast<std::int64_t>(args.data_seed.value_or(args.seed))},
      {"train_sampling_strategy", args.train_sampling_strategy},
      {"train_samples", run.dataset.size()},
      {"train_data_sha256", fingerprint(run.dataset)},
  });
  if (args.train_sampling_strategy == "group_by_length")  // the order follows the batches
    facts.set("samples_per_update", samples_per_update(args));
  return facts;
}

void save_checkpoint(const std::filesystem::path& path, const RunParts& run, const OptimizerStates& states,
                     bool only_model) {
  check_finite(run.model);
  move_aside_what_is_not_ours(path);
  StagedFolder folder(path);
  write_small_files(run.model, run.tokenizer, run.args,
                    [&](const std::string& name, const std::string& content) { folder.write(name, content); });
  folder.write("model.safetensors", [&](OutputFile& out) { write_weights(run.model, out); });
  if (!only_model) {
    folder.write("optimizer.safetensors", [&](OutputFile& out) { write_optimizer(states, out); });
    folder.write("sinter_state.json", sinter_state(run).dump() + "\n");
    if (run.gemm != nullptr) folder.write(TunedGemm::kFile, run.gemm->tuning().table().to_json().dump() + "\n");
  }
  folder.write("trainer_state.json", run.state.to_hf_json().dump(kSorted) + "\n");
  folder.commit(Json::object({{"step", run.state.global_step}}));
}

void load_checkpoint(const std::filesystem::path& folder, const RunParts& run) {
  check_whole(folder);
  const std::filesystem::path state_file = folder / "sinter_state.json";
  if (!std::filesystem::exists(state_file))
    fail(ErrorCode::usage, "Can't find a valid checkpoint at ", folder.string(),
         ": it was saved with save_only_model, and holds no optimizer to go on with");
  const Json state = Json::load(state_file);
  if (state.get<std::int64_t>("format_version") != kFormatVersion)
    state.refuse("format_version", "be " + std::to_string(kFormatVersion) + "; this sinter reads no other");
  check_same_run(state_file, state.at("run"), run_facts(run));
  const Json saved_args = Json::load(folder / "training_args.json");
  announce_changes(saved_args, run.args.to_json(), state.get<std::string>("computed_on"));
  read_weights(run.model, folder / "model.safetensors");
  read_optimizer(run.optimizer, folder / "optimizer.safetensors",
                 state.get<std::int64_t>("optimizer_steps", 0, (std::int64_t{1} << 32) - 1));
  if (run.plateau != nullptr && !state.at("plateau").is_null()) run.plateau->load_state(state.at("plateau"));
  const Json& scaler = state.at("scaler");
  if (!scaler.is_null() && !scaler.is_object()) state.refuse("scaler", "be an object, or null for a run without fp16");
  if (scaler.is_null() && saved_args.get<bool>("fp16")) state.refuse("scaler", "be an object: the run had fp16");
  if (run.scaler != nullptr && !scaler.is_null()) run.scaler->load_state(scaler);
  run.state.read_hf_json(Json::load(folder / "trainer_state.json"));
  run.state.read_sinter_json(state.at("state"));
  if (run.state.samples_in_epoch > run.dataset.size())
    state.at("state").refuse("samples_in_epoch", "be at most " + std::to_string(run.dataset.size()));
}

void load_checkpoint_weights(const std::filesystem::path& folder, nn::Module& model) {
  check_whole(folder);
  read_weights(model, folder / "model.safetensors");
}

void save_model(const std::filesystem::path& folder, const nn::Module& model, const data::BertTokenizer* tokenizer,
                const TrainingArguments& args) {
  check_finite(model);
  create_folders(folder);
  if (tokenizer != nullptr) {
    const auto files = tokenizer->pretrained_files();
    for (const char* name : data::kTokenizerFiles)
      if (std::none_of(files.begin(), files.end(), [&](const auto& file) { return file.first == name; }))
        std::filesystem::remove(folder / name);
  }
  write_file_atomically(folder / "model.safetensors", [&](OutputFile& out) { write_weights(model, out); });
  write_small_files(model, tokenizer, args, [&](const std::string& name, const std::string& content) {
    write_file_atomically(folder / name, content);
  });
}

}  // namespace sinter::train
