#include "train/trainer.h"

#include "core/error.h"
#include "core/io/files.h"
#include "core/log.h"
#include "core/runtime/runtime.h"
#include "nn/bert.h"
#include "nn/pretrained.h"
#include "train/checkpoint.h"
#include "train/columns.h"
#include "train/progress_callback.h"

namespace sinter::train {
namespace {

Json to_json(const Metrics& metrics) {
  Json json = Json::object();
  for (const auto& [key, value] : metrics) json.set(key, value);
  return json;
}

}  // namespace

Trainer::Trainer(Parts parts) : parts_(std::move(parts)) {
  if (parts_.process_group == nullptr) parts_.process_group = std::make_shared<SelfGroup>();
  for (const std::string& warning : parts_.args.warnings()) log_info(warning);
  parts_.args = parts_.args.resolved();
  check_parts();
  if (parts_.model_init) parts_.model = parts_.model_init(parts_.args.seed);
  if (parts_.model == nullptr) fail(ErrorCode::usage, "the Trainer needs a model, or a model_init that makes one");
  const auto* bert = dynamic_cast<const nn::BertForSequenceClassification*>(parts_.model.get());
  if (bert == nullptr && !parts_.compute_loss)
    fail(ErrorCode::usage,
         "the model is no BertForSequenceClassification, so its loss is not known; give compute_loss");
  place_model();
  if (bert != nullptr && parts_.tokenizer)
    if (const std::string warning = nn::check_vocabulary(parts_.tokenizer->size(), bert->config);
        !warning.empty())
      log_info(warning);
  if (bert != nullptr && bert->config.problem_type == "multi_label_classification" &&
      parts_.args.label_smoothing_factor > 0) {
    log_info("label_smoothing_factor has no effect: the model is for multi_label_classification");
    parts_.args.label_smoothing_factor = 0;
  }
  if (parts_.train_dataset) parts_.train_dataset = prepared("train_dataset", *parts_.train_dataset);
  if (parts_.eval_dataset) parts_.eval_dataset = prepared("eval_dataset", *parts_.eval_dataset);
  if (parts_.optimizers.optimizer != nullptr) own_lr_ = parts_.optimizers.optimizer->lr();
  callbacks_.add(std::make_shared<DefaultFlowCallback>());
  for (const auto& callback : parts_.callbacks) callbacks_.add(callback);
  if (is_world_process_zero()) {
    if (parts_.args.disable_tqdm)
      callbacks_.add(std::make_shared<PrinterCallback>());
    else
      callbacks_.add(std::make_shared<ProgressCallback>());
  }
  fire(&TrainerCallback::on_init_end);
}

Trainer::~Trainer() = default;

void Trainer::place_model() {
  const Device device = Device::parse(parts_.args.device);
  Runtime::instance().backend(device);
  if (parts_.optimizers.optimizer != nullptr &&
      parts_.optimizers.optimizer->parameters().values().device() != device)
    fail(ErrorCode::usage, "the optimizer's parameters are on ",
         parts_.optimizers.optimizer->parameters().values().device().str(), ", args.device is ", device.str(),
         "; move the model with to(device) before the optimizer takes its parameters");
  parts_.model->to(device);
  parts_.model->set_compute_dtype(parts_.args.fp16 ? Dtype::f16 : parts_.args.bf16 ? Dtype::bf16 : Dtype::f32);
}

void Trainer::check_parts() {
  const TrainingArguments& args = parts_.args;
  if (parts_.model_init && parts_.model != nullptr)
    fail(ErrorCode::usage, "model and model_init are both given, one of them makes the model");
  if (parts_.model_init && (parts_.optimizers.optimizer != nullptr || parts_.optimizers.lr_lambda))
    fail(ErrorCode::usage, "optimizers cannot be given with model_init: they belong to the parameters of one model");
  if (args.eval_strategy != "no" && !parts_.eval_dataset)
    fail(ErrorCode::usage, "eval_strategy is \"", args.eval_strategy, "\", which needs an eval_dataset");
  if (args.lr_scheduler_type == "reduce_lr_on_plateau" && parts_.optimizers.lr_lambda)
    fail(ErrorCode::usage, "lr_scheduler_type is reduce_lr_on_plateau and optimizers has an lr_lambda; choose one");
}

data::Dataset Trainer::prepared(const char* what, const data::Dataset& dataset) const {
  if (parts_.compute_loss) return dataset;
  const auto& bert = dynamic_cast<const nn::BertForSequenceClassification&>(*parts_.model);
  data::Dataset columns = model_columns(what, dataset, parts_.args, bert.config);
  if (what != std::string_view("dataset") && columns.size() > 0 && label_columns(parts_.args, columns).empty())
    fail(ErrorCode::usage, what,
         " has no labels; they are an integer column label, label_ids or labels, or those of "
         "label_names");
  return columns;
}

void Trainer::fire(CallbackHandler::Event event, const Metrics* metrics, const Json* logs) {
  CallbackContext context{.args = parts_.args,
                          .state = state_,
                          .control = control_,
                          .model = *parts_.model,
                          .optimizer = optimizer_,
                          .metrics = metrics,
                          .logs = logs};
  flush_before(event);
  callbacks_.call(event, context);
}

void Trainer::log(Json entry) {
  entry.set("epoch", state_.epoch);
  const Json shown = entry;
  entry.set("step", state_.global_step);
  state_.log_history.push_back(std::move(entry));
  fire(&TrainerCallback::on_log, nullptr, &shown);
}

data::CollatedBatch Trainer::collate(const data::Dataset& dataset, std::span<const std::int64_t> rows,
                                     std::int64_t first_sample) const {
  if (parts_.data_collator) return parts_.data_collator(dataset, rows, first_sample);
  if (dataset.has_column("input_ids")) return data::DataCollatorWithFlattening()(dataset, rows, first_sample);
  data::CollatedBatch batch;
  batch.sample_count = static_cast<std::int64_t>(rows.size());
  batch.first_sample = first_sample;
  return batch;
}

ModelOutput Trainer::compute_loss(const LossInputs& inputs) {
  if (parts_.compute_loss) return parts_.compute_loss(*parts_.model, inputs);
  return classification_loss(*parts_.model, inputs, parts_.args.label_smoothing_factor);
}

void Trainer::save_model(const std::optional<std::filesystem::path>& folder) {
  if (!is_world_process_zero()) return;
  if (optimizer_ != nullptr) optimizer_->flush();
  train::save_model(folder.value_or(parts_.args.output_dir), *parts_.model,
                    parts_.tokenizer ? &*parts_.tokenizer : nullptr, parts_.args);
  if (!folder) remove_replaced();
}

void Trainer::remove_replaced() {
  for (const std::filesystem::path& checkpoint : std::exchange(replaced_, {})) remove_checkpoint(checkpoint);
}

void Trainer::save_state() const {
  if (!is_world_process_zero()) return;
  create_folders(parts_.args.output_dir);
  state_.to_hf_json().save(std::filesystem::path(parts_.args.output_dir) / "trainer_state.json", {.sort_keys = true});
}

void Trainer::save_metrics(const std::string& split, const Metrics& metrics) const {
  if (!is_world_process_zero()) return;
  const std::filesystem::path folder = parts_.args.output_dir;
  create_folders(folder);
  constexpr JsonStyle kStyle{.indent = 4, .sort_keys = true};
  write_file_atomically(folder / (split + "_results.json"), to_json(metrics).dump(kStyle));
  const std::filesystem::path all_path = folder / "all_results.json";
  Json all = Json::object();
  try {
    if (std::filesystem::exists(all_path)) all = Json::load(all_path);
    for (const auto& [key, value] : metrics) all.set(key, value);
  } catch (const Error& error) {
    log_info(std::string("what was in all_results.json is replaced: ") + error.what());
    all = to_json(metrics);
  }
  write_file_atomically(all_path, all.dump(kStyle));
}

}  // namespace sinter::train
