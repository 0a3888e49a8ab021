#include "train/training_arguments.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <limits>

#include "core/device.h"
#include "core/error.h"
#include "core/runtime/runtime.h"
#include "optim/plateau.h"
#include "optim/schedule.h"
#include "optim/sgd.h"

namespace sinter::train {
namespace {

constexpr double kMaxSteps = 4294967296.0;  // 2^32: a step number is one word of the random counter

template <class T>
void require(bool holds, const char* field, const T& value, const std::string& rule) {
  if (!holds) fail(ErrorCode::usage, field, " is ", value, ", it must ", rule);
}

std::string quoted(const std::string& text) { return "\"" + text + "\""; }

void require_one_of(const char* field, const std::string& value, std::initializer_list<const char*> names) {
  std::string list;
  for (const char* name : names)
    list += (list.empty() ? "" : name == *(names.end() - 1) ? " or " : ", ") + std::string(name);
  require(std::find(names.begin(), names.end(), value) != names.end(), field, quoted(value), "be " + list);
}

void require_unit(const char* field, double value) { require(value >= 0 && value < 1, field, value, "lie in [0, 1)"); }

void require_finite(const char* field, double value) {
  require(std::isfinite(value) && value >= 0, field, value, "be finite and not negative");
}

/// A count of steps: an integer, or a share of all updates below 1.
void require_steps(const char* field, double value) {
  require(value > 0, field, value, "be at least 1, or a share of all updates between 0 and 1");
  require(value < kMaxSteps, field, value, "be smaller than 2^32");
  require(value < 1 || value == std::floor(value), field, value, "be an integer, as it is not below 1");
}

void validate_sizes(const TrainingArguments& a) {
  require(!a.output_dir.empty(), "output_dir", "\"\"", "name a folder");
  const auto require_size = [](const char* field, std::int64_t value) {
    require(value >= 1 && value <= 1'000'000, field, value, "lie between 1 and 1000000");
  };
  require_size("per_device_train_batch_size", a.per_device_train_batch_size);
  require_size("per_device_eval_batch_size", a.per_device_eval_batch_size);
  require_size("gradient_accumulation_steps", a.gradient_accumulation_steps);
  require(a.num_train_epochs >= 0 && a.num_train_epochs <= 1e6, "num_train_epochs", a.num_train_epochs,
          "lie between 0 and 1000000");
  require(a.ddp_bucket_cap_mb >= 0 && a.ddp_bucket_cap_mb <= 1'000'000, "ddp_bucket_cap_mb", a.ddp_bucket_cap_mb,
          "lie between 0 and 1000000");
  require(a.zero_stage == 0 || a.zero_stage == 1, "zero_stage", a.zero_stage,
          "be 0 or 1, which shares the optimizer's states out between ranks");
  require(static_cast<double>(a.max_steps) < kMaxSteps, "max_steps", a.max_steps, "be smaller than 2^32");
  for (const auto& [field, seed] : {std::pair{"seed", a.seed}, std::pair{"data_seed", a.data_seed.value_or(0)}})
    require(seed >> 63 == 0, field, seed, "be smaller than 2^63");
}

void validate_optimizer(const TrainingArguments& a) {
  require_finite("learning_rate", a.learning_rate);
  require(a.learning_rate <= std::numeric_limits<float>::max(), "learning_rate", a.learning_rate, "fit an f32");
  require_finite("weight_decay", a.weight_decay);
  require_unit("adam_beta1", a.adam_beta1);
  require_unit("adam_beta2", a.adam_beta2);
  require(std::isfinite(a.adam_epsilon) && a.adam_epsilon > 0, "adam_epsilon", a.adam_epsilon,
          "be finite and positive");
  require_finite("max_grad_norm", a.max_grad_norm);
  require_unit("label_smoothing_factor", a.label_smoothing_factor);
  require_one_of("optim", a.optim, {"adamw_torch", "adamw_torch_fused", "sgd"});
  if (a.optim == "sgd") optim::parse_sgd_options(a.optim_args);
  require(a.optim_args.empty() || a.optim == "sgd", "optim_args", quoted(a.optim_args),
          "be empty, as optim is " + a.optim + "; its settings are adam_beta1, adam_beta2 and adam_epsilon");
  require(a.warmup_steps >= 0, "warmup_steps", a.warmup_steps, "not be negative");
  require(a.warmup_steps < kMaxSteps, "warmup_steps", a.warmup_steps, "be smaller than 2^32");
  require(a.warmup_steps < 1 || a.warmup_steps == std::floor(a.warmup_steps), "warmup_steps", a.warmup_steps,
          "be an integer, as it is not below 1");
  require(a.warmup_ratio >= 0 && a.warmup_ratio <= 1, "warmup_ratio", a.warmup_ratio, "lie in [0, 1]");
  if (a.lr_scheduler_type == "reduce_lr_on_plateau") {
    optim::ReduceLrOnPlateau(1, a.lr_scheduler_kwargs, true);
  } else {  // names and settings are the schedule's own rules; the counts here stand for any
    optim::get_scheduler(a.lr_scheduler_type, 0, 1, a.lr_scheduler_kwargs, a.learning_rate);
  }
}

void validate_cadence(const TrainingArguments& a) {
  require_one_of("logging_strategy", a.logging_strategy, {"no", "steps", "epoch"});
  require_one_of("eval_strategy", a.eval_strategy, {"no", "steps", "epoch"});
  require_one_of("save_strategy", a.save_strategy, {"no", "steps", "epoch", "best"});
  require_steps("logging_steps", a.logging_steps);
  if (a.eval_steps) require_steps("eval_steps", *a.eval_steps);
  require_steps("save_steps", a.save_steps);
  require_finite("eval_delay", a.eval_delay);
  if (a.evaluation_strategy) {
    require_one_of("evaluation_strategy", *a.evaluation_strategy, {"no", "steps", "epoch"});
    require(a.eval_strategy == "no" || a.eval_strategy == *a.evaluation_strategy, "evaluation_strategy",
            quoted(*a.evaluation_strategy),
            "not contradict eval_strategy, its newer name, which is " + a.eval_strategy);
  }
}

/// Is `save` a multiple of `eval`? Shares are compared in millionths, where 0.3 is three times 0.1.
bool is_multiple(double save, double eval) {
  const auto in_units = [](double steps) { return std::llround(steps < 1 ? steps * 1e6 : steps); };
  return in_units(save) % std::max<long long>(1, in_units(eval)) == 0;
}

void validate_best_model(const TrainingArguments& a) {
  const std::string evaluation = a.evaluation_strategy.value_or(a.eval_strategy);
  const double eval_steps = a.eval_steps.value_or(a.logging_steps);
  if (a.save_strategy == "best")
    require(evaluation != "no", "save_strategy", "best", "not be best while eval_strategy is no: nothing is evaluated");
  if (a.lr_scheduler_type == "reduce_lr_on_plateau")
    require(evaluation != "no", "lr_scheduler_type", "reduce_lr_on_plateau",
            "not be that while eval_strategy is no: it follows an evaluated metric");
  if (!a.load_best_model_at_end) return;
  require(evaluation != "no", "load_best_model_at_end", "true",
          "not be set while eval_strategy is no: nothing is evaluated");
  if (a.save_strategy == "best") return;
  require(evaluation == a.save_strategy, "save_strategy", a.save_strategy,
          "be best or that of the evaluation, " + evaluation + ", as load_best_model_at_end is set");
  if (evaluation != "steps") return;
  require((a.save_steps < 1) == (eval_steps < 1), "save_steps", a.save_steps,
          "be a count or a share as eval_steps is, as load_best_model_at_end is set");
  std::string multiple =
      "be a multiple of eval_steps, " + Json(eval_steps).dump() + ", as load_best_model_at_end is set";
  require(is_multiple(a.save_steps, eval_steps), "save_steps", a.save_steps, multiple);
}

void validate_data(const TrainingArguments& a) {
  require_one_of("train_sampling_strategy", a.train_sampling_strategy, {"random", "sequential", "group_by_length"});
  require(!a.group_by_length || a.train_sampling_strategy != "sequential", "group_by_length", "true",
          "not contradict train_sampling_strategy, its newer name, which is sequential");
  for (const std::string& name : a.label_names) require(!name.empty(), "label_names", "[\"\"]", "name columns");
}

Device device_of(const TrainingArguments& a) {
  if (a.use_cpu) return Device::cpu();
  if (!a.device.empty()) return Device::parse(a.device);
  return Runtime::instance().why_unusable(Device::cuda()).empty() ? Device::cuda() : Device::cpu();
}

void validate_device(const TrainingArguments& a) {
  const Device named = a.device.empty() ? Device::cpu() : Device::parse(a.device);
  require(!a.use_cpu || named.is_cpu(), "use_cpu", "true", "not contradict device, which is " + named.str());
  if (a.fp16 && a.bf16) fail(ErrorCode::usage, "fp16 and bf16 are both set, at most one may be");
  if (a.fp16_full_eval && a.bf16_full_eval)
    fail(ErrorCode::usage, "fp16_full_eval and bf16_full_eval are both set, at most one may be");
  const bool wanted_cuda = !a.use_cpu && a.device.empty();
  for (const auto& [set, field] :
       {std::pair{a.fp16, "fp16"}, std::pair{a.bf16, "bf16"}, std::pair{a.fp16_full_eval, "fp16_full_eval"},
        std::pair{a.bf16_full_eval, "bf16_full_eval"}})
    if (set && device_of(a).is_cpu())
      fail(ErrorCode::unsupported, field, " is set, but the CPU computes in f32 only; leave ", field,
           " out, or name a CUDA device with device",
           wanted_cuda ? " (CUDA is not usable: " + Runtime::instance().why_unusable(Device::cuda()) + ")" : "");
  if (a.tune_gemm && device_of(a).is_cpu())
    fail(ErrorCode::unsupported, "tune_gemm is set, but the CPU's matrix products have nothing to tune; leave "
         "tune_gemm out, or name a CUDA device with device",
         wanted_cuda ? " (CUDA is not usable: " + Runtime::instance().why_unusable(Device::cuda()) + ")" : "");
}

void refuse_unsupported(const TrainingArguments& a) {
  if (a.gradient_checkpointing)
    fail(ErrorCode::unsupported,
         "gradient_checkpointing is set, but the layers of BERT do not recompute yet; leave "
         "it out, or lower per_device_train_batch_size");
}

bool ends_with_loss(const std::string& metric) { return metric.ends_with("loss"); }

std::string expand_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  if (path != "~" && !path.starts_with("~/")) return path;
  if (home == nullptr) fail(ErrorCode::usage, "output_dir is ", path, ", and HOME, which ~ stands for, is not set");
  return home + path.substr(1);
}

}  // namespace

void TrainingArguments::validate() const {
  check_texts();
  validate_sizes(*this);
  validate_optimizer(*this);
  validate_cadence(*this);
  validate_best_model(*this);
  validate_data(*this);
  validate_device(*this);
  refuse_unsupported(*this);
}

std::vector<std::string> TrainingArguments::warnings() const {
  std::vector<std::string> found;
  const bool evaluates = eval_strategy != "no" || evaluation_strategy.value_or("no") != "no";
  const bool warms_up = warmup_steps > 0 || warmup_ratio > 0;
  if (evaluation_strategy) found.push_back("evaluation_strategy is the older name of eval_strategy");
  if (eval_steps && eval_strategy != "steps" && evaluation_strategy.value_or("no") != "steps")
    found.push_back("eval_steps has no effect: eval_strategy is not steps");
  if (eval_delay > 0 && !evaluates) found.push_back("eval_delay has no effect: eval_strategy is no");
  if (warms_up && (lr_scheduler_type == "constant" || lr_scheduler_type == "reduce_lr_on_plateau"))
    found.push_back("there is no warm-up: the schedule " + lr_scheduler_type + " has none; constant_with_warmup does");
  if (warmup_steps > 0 && warmup_ratio > 0) found.push_back("warmup_ratio has no effect: warmup_steps is given");
  if (max_steps > 0 && num_train_epochs != TrainingArguments().num_train_epochs)
    found.push_back("num_train_epochs has no effect: max_steps is given");
  if (!cuda_graphs && device_of(*this).is_cpu())
    found.push_back("cuda_graphs has no effect: on the CPU nothing is captured");
  if (save_strategy == "no" && save_total_limit) found.push_back("save_total_limit has no effect: save_strategy is no");
  if (greater_is_better && !metric_for_best_model && !load_best_model_at_end && save_strategy != "best")
    found.push_back("greater_is_better has no effect: no metric_for_best_model is given");
  return found;
}

TrainingArguments TrainingArguments::resolved() const {
  validate();
  TrainingArguments a = *this;
  a.output_dir = expand_home(output_dir);
  if (evaluation_strategy) a.eval_strategy = *evaluation_strategy;
  a.evaluation_strategy.reset();
  if (!eval_steps) a.eval_steps = logging_steps;
  a.device = device_of(a).str();
  if (a.eval_strategy != "no") a.do_eval = true;
  const bool needs_metric =
      load_best_model_at_end || save_strategy == "best" || lr_scheduler_type == "reduce_lr_on_plateau";
  if (needs_metric && !metric_for_best_model) a.metric_for_best_model = "loss";
  if (a.metric_for_best_model && !greater_is_better) a.greater_is_better = !ends_with_loss(*a.metric_for_best_model);
  if (group_by_length) a.train_sampling_strategy = "group_by_length";
  return a;
}

std::int64_t samples_per_update(const TrainingArguments& args) {
  return args.per_device_train_batch_size * args.gradient_accumulation_steps;
}

std::int64_t absolute_steps(double steps, std::int64_t max_steps) {
  return static_cast<std::int64_t>(steps < 1 ? std::ceil(steps * static_cast<double>(max_steps)) : steps);
}

}  // namespace sinter::train
