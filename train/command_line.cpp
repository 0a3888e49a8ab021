#include "train/command_line.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <functional>
#include <set>

#include "core/error.h"
#include "train/nearest_name.h"

namespace sinter::train {
namespace {

constexpr std::int64_t kMaxThreads = 256;
constexpr std::int64_t kMaxRanks = 1024;      // of --nproc, on one machine
constexpr std::int64_t kMaxTimeout = 86400;   // a day
constexpr int kHelpColumn = 40;

/// The seed's settings for a pretrained model on the real data.
TrainingArguments sst2_defaults() {
  TrainingArguments args;
  args.output_dir = "out/sst2";
  args.per_device_train_batch_size = 16;
  args.per_device_eval_batch_size = 64;
  args.num_train_epochs = 3;
  args.learning_rate = 2e-5;
  args.weight_decay = 0.01;
  args.eval_strategy = "epoch";
  args.save_strategy = "epoch";
  args.save_total_limit = 1;
  return args;
}

/// What differs for the generated reviews, which are learnt from scratch.
TrainingArguments review_defaults() {
  TrainingArguments args = sst2_defaults();
  args.output_dir = "out/reviews";
  args.per_device_train_batch_size = 32;
  args.num_train_epochs = 12;
  args.learning_rate = 5e-4;
  args.warmup_ratio = 0.1;
  args.logging_steps = 250;
  return args;
}

/// Options of one heading of --help.
class Group {
 public:
  Group(CLI::App& app, const char* title) : app_(app), title_(title) {}

  template <class T>
  Group& option(const char* names, T& value, const char* help) {
    app_.add_option(names, value, help)->group(title_);
    return *this;
  }
  /// Values that follow one --name, or several.
  Group& list(const char* names, std::vector<std::string>& values, bool many, const char* help) {
    CLI::Option* added = app_.add_option(names, values, help)->allow_extra_args(many)->default_str("")->group(title_);
    if (!many) added->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    return *this;
  }
  /// --name, --name=true or --name=false; main's words "--name true" are joined before.
  Group& flag(const char* names, bool& value, const char* help) {
    app_.add_flag(names, value, help)->group(title_);
    return *this;
  }
  Group& json(const char* names, Json& value, const char* help) {
    app_.add_option_function<std::string>(
            names, [&value, names](const std::string& text) { value = Json::parse(text, names); }, help)
        ->type_name("JSON")
        ->group(title_);
    return *this;
  }

 private:
  CLI::App& app_;
  const char* title_;
};

void add_job_options(CLI::App& app, CommandLine& c) {
  TrainingArguments& a = c.args;
  Group(app, "What to do (--do_train and --do_eval where nothing is said)")
      .flag("--do_train", a.do_train, "Fine-tune on the training split")
      .flag("--do_eval", a.do_eval, "Evaluate on the validation split at the end")
      .flag("--do_predict", a.do_predict, "Label the test split: predict_results_sst2.txt in output_dir")
      .list("--sentence", c.sentences, false, "Classify this text; may be repeated")
      .option("--predict_file", c.predict_file, "Classify each line of a file; - is standard input");
  Group(app, "Data and model")
      .option("--data_dir", c.data_dir, "GLUE's SST-2, folder or zip; else generated reviews")
      .option("--model_name_or_path", c.model_name_or_path,
              "A model's folder or name; reviews: else a new small BERT")
      .option("--max_seq_length", c.max_seq_length, "Longer sentences are cut to this many tokens")
      .flag("--pad_to_max_length", c.pad_to_max_length, "Pad to max_seq_length; else no pad is computed")
      .option("--max_train_samples", c.max_train_samples, "Train on the first N samples")
      .option("--max_eval_samples", c.max_eval_samples, "Evaluate on the first N samples")
      .option("--max_predict_samples", c.max_predict_samples, "Label the first N samples")
      .flag("--ignore_mismatched_sizes", c.ignore_mismatched_sizes,
            "New classifier where the model has other labels")
      .list("--label_names", a.label_names, true, "Columns that hold the labels");
  Group(app, "Run")
      .option("--output_dir", a.output_dir, "Where all results go; the default is replaced")
      .flag("--overwrite_output_dir", a.overwrite_output_dir, "Accept an output_dir that is not empty")
      .option("--resume_from_checkpoint", a.resume_from_checkpoint,
              "A checkpoint's folder, true for the newest, auto for that if any")
      .flag("--ignore_data_skip", a.ignore_data_skip, "A resumed run begins its epoch's data anew")
      .option("--seed", a.seed, "Of dropout and of new parameters")
      .option("--data_seed", a.data_seed, "Of the order of the data; --seed where not given")
      .flag("--full_determinism", a.full_determinism, "Holds always")
      .option("--device", a.device, "cpu, cuda, cuda:N or simt (CUDA emulated, slow); cuda where it can be used")
      .flag("--use_cpu,--no_cuda", a.use_cpu, "The same as --device cpu")
      .option("--num_threads", c.num_threads, "CPU threads, 0: all cores; never changes a result")
      .option("--nproc", c.nproc, "Train with this many processes, which mpirun starts")
      .option("--ddp_bucket_cap_mb", a.ddp_bucket_cap_mb, "MiB of gradients that ranks add up at once; 0: all")
      .option("--zero_stage", a.zero_stage, "1: ranks share the optimizer's states out; the same results")
      .option("--ddp_timeout", c.ddp_timeout, "Seconds without a sign of life until a rank is lost")
      .option("--cpu_isa", c.cpu_isa, "avx2 or avx512; the best where not given")
      .flag("--disable_tqdm", a.disable_tqdm, "No progress bar");
}

void add_training_options(CLI::App& app, CommandLine& c) {
  TrainingArguments& a = c.args;
  Group(app, "Length and batches")
      .option("--num_train_epochs", a.num_train_epochs, "Passes over the data, may be fractional")
      .option("--max_steps", a.max_steps, "Updates; wins over num_train_epochs when positive")
      .option("--per_device_train_batch_size", a.per_device_train_batch_size, "Samples of a micro-batch")
      .option("--per_device_eval_batch_size", a.per_device_eval_batch_size, "Samples of an evaluation batch")
      .option("--gradient_accumulation_steps", a.gradient_accumulation_steps, "Micro-batches of an update")
      .flag("--auto_find_batch_size", a.auto_find_batch_size, "Out of memory: start again with smaller batches")
      .flag("--dataloader_drop_last", a.dataloader_drop_last, "Drop a last incomplete training batch")
      .option("--train_sampling_strategy", a.train_sampling_strategy, "random, sequential or group_by_length")
      .flag("--group_by_length", a.group_by_length, "The older form of group_by_length")
      .option("--length_column_name", a.length_column_name, "Column of lengths for group_by_length");
  Group(app, "Optimizer and schedule")
      .option("--learning_rate", a.learning_rate, "The peak")
      .option("--weight_decay", a.weight_decay, "Of weights, not of biases and LayerNorms")
      .option("--adam_beta1", a.adam_beta1, "AdamW's beta1")
      .option("--adam_beta2", a.adam_beta2, "AdamW's beta2")
      .option("--adam_epsilon", a.adam_epsilon, "AdamW's epsilon")
      .option("--max_grad_norm", a.max_grad_norm, "Gradients are clipped to this norm; 0: never")
      .option("--label_smoothing_factor", a.label_smoothing_factor, "Of the training and evaluation loss")
      .option("--optim", a.optim, "adamw_torch, adamw_torch_fused (the same here) or sgd")
      .option("--optim_args", a.optim_args, "sgd's: momentum=0.9,nesterov=true")
      .flag("--deferred_embedding_update", a.deferred_embedding_update,
            "Rows of the word table wait for their update until they are read; the same bits")
      .option("--lr_scheduler_type", a.lr_scheduler_type, "linear, cosine, constant ... (README has all)")
      .json("--lr_scheduler_kwargs", a.lr_scheduler_kwargs, "Of that schedule: {\"num_cycles\": 2}")
      .option("--warmup_steps", a.warmup_steps, "Updates of warm-up; below 1: a share of all")
      .option("--warmup_ratio", a.warmup_ratio, "The older form of such a share");
  Group(app, "Precision and memory")
      .flag("--fp16", a.fp16, "Mixed precision with a scaled loss, on CUDA devices")
      .flag("--bf16", a.bf16, "Mixed precision, on CUDA devices")
      .flag("--fp16_full_eval", a.fp16_full_eval, "Evaluate and predict in f16, whatever the training did")
      .flag("--bf16_full_eval", a.bf16_full_eval, "The same in bf16")
      .flag("--cuda_graphs", a.cuda_graphs, "On CUDA devices replay each step as a graph; false: launch its kernels")
      .flag("--tune_gemm", a.tune_gemm, "Time cuBLASLt's algorithms in the first updates and take the fastest")
      .flag("--gradient_checkpointing", a.gradient_checkpointing, "Recompute activations (refused until built)");
}

void add_cadence_options(CLI::App& app, CommandLine& c) {
  TrainingArguments& a = c.args;
  Group(app, "Logging, evaluation, saving (steps are updates; below 1: a share of all)")
      .option("--logging_strategy", a.logging_strategy, "no, steps or epoch")
      .option("--logging_steps", a.logging_steps, "Updates between two log lines")
      .flag("--logging_first_step", a.logging_first_step, "Log the first update too")
      .flag("--logging_nan_inf_filter", a.logging_nan_inf_filter,
            "Skip updates that are not finite; else they end the run")
      .option("--eval_strategy", a.eval_strategy, "no, steps or epoch")
      .option("--evaluation_strategy", a.evaluation_strategy, "The older name")
      .option("--eval_steps", a.eval_steps, "Updates between evaluations; else logging_steps")
      .option("--eval_delay", a.eval_delay, "No evaluation before this update or epoch")
      .flag("--eval_on_start", a.eval_on_start, "Evaluate before the first update")
      .flag("--prediction_loss_only", a.prediction_loss_only, "Evaluate the loss alone")
      .option("--save_strategy", a.save_strategy, "no, steps, epoch or best")
      .option("--save_steps", a.save_steps, "Updates between two checkpoints")
      .option("--save_total_limit", a.save_total_limit, "Checkpoints that are kept, 0: all; else 1")
      .flag("--save_only_model", a.save_only_model, "Checkpoints from which no run resumes")
      .flag("--load_best_model_at_end", a.load_best_model_at_end, "End with the best weights")
      .option("--metric_for_best_model", a.metric_for_best_model, "accuracy, loss, ...")
      .option("--greater_is_better", a.greater_is_better, "true or false; else by the metric's name");
}

std::string lower_case(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char ch) { return std::tolower(ch); });
  return text;
}

/// CLI11 reads "" as 0, clamps what does not fit and takes numbers for truths. Throws for a number that is not written
/// out whole and in range, and for a truth that is not true or false.
void check_written_values(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    for (const std::string& text : option->results()) {
      const char *begin = text.data(), *end = begin + text.size();
      std::int64_t integer = 0;
      std::uint64_t natural = 0;
      double real = 0;
      std::from_chars_result read{end, std::errc{}};
      if (type == "INT") read = std::from_chars(begin, end, integer);
      if (type == "UINT") read = std::from_chars(begin, end, natural);
      if (type == "FLOAT") read = std::from_chars(begin, end, real);
      const bool is_truth = type == "BOOLEAN" || option->get_expected_max() == 0;
      const std::string truth = lower_case(text);
      if (is_truth && truth != "true" && truth != "false")
        fail(ErrorCode::usage, option->get_name(), " is \"", text.substr(0, 100), "\", it must be true or false");
      if (text.empty() || read.ptr != end || read.ec != std::errc{})
        fail(ErrorCode::usage, option->get_name(), " is \"", text.substr(0, 100), "\", it must be ",
             type == "INT"     ? "an integer"
             : type == "UINT"  ? "an integer of at least 0"
             : type == "FLOAT" ? "a number"
                               : "a text that is not empty");
    }
  }
}

void check(const CommandLine& c) {
  const TrainingArguments& a = c.args;
  if (c.max_seq_length < 3) fail(ErrorCode::usage, "max_seq_length is ", c.max_seq_length, ", it must be at least 3");
  for (const auto& [name, value] : {std::pair{"max_train_samples", c.max_train_samples},
                                    std::pair{"max_eval_samples", c.max_eval_samples},
                                    std::pair{"max_predict_samples", c.max_predict_samples}})
    if (value && *value < 1) fail(ErrorCode::usage, name, " is ", *value, ", it must be at least 1");
  if (!c.cpu_isa.empty() && c.cpu_isa != "avx2" && c.cpu_isa != "avx512")
    fail(ErrorCode::usage, "cpu_isa is \"", c.cpu_isa, "\", it must be avx2 or avx512");
  if (c.nproc < 0 || c.nproc > kMaxRanks)
    fail(ErrorCode::usage, "nproc is ", c.nproc, ", it must lie between 1 and ", kMaxRanks,
         ", or be 0 to start no process");
  if (c.ddp_timeout < 1 || c.ddp_timeout > kMaxTimeout)
    fail(ErrorCode::usage, "ddp_timeout is ", c.ddp_timeout, ", it must lie between 1 and ", kMaxTimeout, " seconds");
  if (c.num_threads < 0 || c.num_threads > kMaxThreads)
    fail(ErrorCode::usage, "num_threads is ", c.num_threads, ", it must lie between 1 and ", kMaxThreads,
         ", or be 0 for all cores");
  if (c.only_classifies()) {
    if (c.model_name_or_path.empty())
      fail(ErrorCode::usage, "to classify sentences give a fine-tuned model as --model_name_or_path");
    return;
  }
  if (!c.sentences.empty() || !c.predict_file.empty())
    fail(ErrorCode::usage, "--sentence and --predict_file classify with a model that is there, in a run of their own; "
                           "leave out --do_train, --do_eval and --do_predict");
  if (!c.data_dir.empty() && c.model_name_or_path.empty())
    fail(ErrorCode::usage, "--data_dir needs --model_name_or_path: a folder with config.json, model.safetensors and "
                           "vocab.txt, or the name of a model in Hugging Face's cache");
  if (c.data_dir.empty() && a.do_predict)
    fail(ErrorCode::usage, "--do_predict labels the test split of --data_dir; the generated reviews have none");
  if (a.resume_from_checkpoint && !a.do_train)
    fail(ErrorCode::usage, "resume_from_checkpoint goes on training, so it needs --do_train; to evaluate a checkpoint "
                           "give its folder as --model_name_or_path");
}

/// A default of this program gives way to what contradicts it; the user's own words do not.
void withdraw_defaults(const std::function<bool(const char* name)>& given, TrainingArguments& a) {
  const TrainingArguments neutral;
  if (a.evaluation_strategy && !given("eval_strategy")) a.eval_strategy = neutral.eval_strategy;
  if (a.max_steps > 0 && !given("num_train_epochs")) a.num_train_epochs = neutral.num_train_epochs;
  if ((a.warmup_steps > 0 || given("lr_scheduler_type")) && !given("warmup_ratio")) a.warmup_ratio = 0;
  if (a.save_strategy == "no" && !given("save_total_limit")) a.save_total_limit.reset();
}

/// "--flag true" as "--flag=true", as HF's parser takes both.
std::vector<std::string> joined_flags(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    const std::string word = lower_case(argv[i]);
    const CLI::Option* before = words.empty() ? nullptr : app.get_option_no_throw(words.back());
    const bool is_flag = before != nullptr && before->get_expected_max() == 0 && words.back().starts_with("--");
    if (is_flag && (word == "true" || word == "false"))
      words.back() += "=" + word;
    else
      words.emplace_back(argv[i]);
  }
  return words;
}

/// Throws for words that are no options and no values of one.
[[noreturn]] void refuse_unknown(const CLI::App& app) {
  std::vector<std::string> known, words = app.remaining();
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  for (const std::string& word : words)
    if (const std::string name = word.substr(0, word.find('=')); name.starts_with("--"))
      fail(ErrorCode::usage, name.substr(0, 100), " is no option", nearest_name_hint(name, known),
           "; sst2 --help lists all");
  fail(ErrorCode::usage, "\"", words.front().substr(0, 100), "\" belongs to no option (quote a value with spaces); ",
       "sst2 --help lists the options");
}

/// Throws for an option of the command line that has no part in classifying sentences.
void refuse_what_classifying_ignores(const CLI::App& app) {
  static const std::set<std::string> used = {
      "sentence",    "predict_file", "model_name_or_path", "max_seq_length", "per_device_eval_batch_size",
      "num_threads", "cpu_isa",      "device",             "use_cpu",        "config",
      "full_determinism", "disable_tqdm"};
  for (const CLI::Option* option : app.get_options())
    if (option->count() > 0 && !option->get_lnames().empty() && !used.contains(option->get_lnames().front()))
      fail(ErrorCode::usage, option->get_name(), " has no part in classifying sentences; leave it out");
}

/// The value of an option that must be known before the others are read.
std::optional<std::string> find_word(int argc, char** argv, std::string_view name) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == name && i + 1 < argc) return argv[i + 1];
    if (word.starts_with(name) && word.size() > name.size() && word[name.size()] == '=')
      return std::string(word.substr(name.size() + 1));
  }
  return std::nullopt;
}

/// Calls visit(name, member) for the options that are not TrainingArguments'.
template <class Visit>
void for_each_own(CommandLine& c, Visit&& visit) {
  visit("data_dir", c.data_dir);
  visit("model_name_or_path", c.model_name_or_path);
  visit("max_seq_length", c.max_seq_length);
  visit("pad_to_max_length", c.pad_to_max_length);
  visit("max_train_samples", c.max_train_samples);
  visit("max_eval_samples", c.max_eval_samples);
  visit("max_predict_samples", c.max_predict_samples);
  visit("ignore_mismatched_sizes", c.ignore_mismatched_sizes);
  visit("sentence", c.sentences);
  visit("predict_file", c.predict_file);
  visit("num_threads", c.num_threads);
  visit("nproc", c.nproc);
  visit("ddp_timeout", c.ddp_timeout);
  visit("cpu_isa", c.cpu_isa);
}

template <class T>
void take(const Json& json, const char* name, T& value) {
  value = json.get<T>(name);
}
template <class T>
void take(const Json& json, const char* name, std::optional<T>& value) {
  value = json.get<T>(name);
}

void take(const Json& json, const char* name, std::vector<std::string>& values) {
  for (const Json& element : json.elements(name)) values.push_back(element.as<std::string>());
}

/// Takes these options from a file of --config; the others, which are TrainingArguments', are returned.
Json take_own(const Json& json, CommandLine& c) {
  std::set<std::string_view> own;
  for_each_own(c, [&](const char* name, auto& value) {
    own.insert(name);
    if (json.contains(name)) take(json, name, value);
  });
  Json others = Json::object();
  for (const auto& [name, value] : json.items())
    if (!own.contains(name)) others.set(name, value);
  return others;
}

}  // namespace

bool CommandLine::only_classifies() const {
  return !args.do_train && !args.do_eval && !args.do_predict && (!sentences.empty() || !predict_file.empty());
}

std::optional<CommandLine> parse_command_line(int argc, char** argv) {
  CommandLine c;
  const std::optional<std::string> config = find_word(argc, argv, "--config");
  if (config && config->empty()) fail(ErrorCode::usage, "--config is empty; give it a JSON file");
  const Json json = config ? Json::load(*config) : Json::object();
  const bool real_data = find_word(argc, argv, "--data_dir").has_value() || json.contains("data_dir");
  c.args = real_data ? sst2_defaults() : review_defaults();
  try {
    c.args = TrainingArguments::from_json(take_own(json, c), c.args);
  } catch (const Error& error) {
    fail(error.code(), *config, ": ", error.what());
  }

  CLI::App app("Fine-tunes BERT for sentence classification.\n"
               "Without options: trains a small BERT on generated reviews.");
  app.name("sst2");
  app.footer("Defaults are those of " + std::string(real_data ? "real data; without --data_dir some differ."
                                                              : "the generated reviews; with --data_dir some differ:\n"
                                                                "sst2 --data_dir SST-2 --help shows them."));
  app.option_defaults()->always_capture_default();
  std::string config_again;
  add_job_options(app, c);
  app.add_option("--config", config_again, "JSON file with these names; other options win over it")->group("Run");
  add_training_options(app, c);
  add_cadence_options(app, c);
  app.get_formatter()->column_width(kHelpColumn);
  try {
    std::vector<std::string> words = joined_flags(app, argc, argv);
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return std::nullopt;
  } catch (const CLI::ExtrasError&) {
    refuse_unknown(app);
  } catch (const CLI::ArgumentMismatch& error) {
    const std::string what = error.what(), name = what.substr(0, what.find(':'));
    if (what.find("At Most") != std::string::npos) fail(ErrorCode::usage, name, " is given more than once");
    fail(ErrorCode::usage, name, " needs a value after it; sst2 --help lists the options");
  } catch (const CLI::ParseError& error) {
    check_written_values(app);   // says it better, where it can
    fail(ErrorCode::usage, error.what(), "; sst2 --help lists the options");
  }
  check_written_values(app);
  TrainingArguments& a = c.args;
  for (const char* truth : {"true", "false", "auto"})
    if (a.resume_from_checkpoint && lower_case(*a.resume_from_checkpoint) == truth) a.resume_from_checkpoint = truth;
  if (!a.do_train && !a.do_eval && !a.do_predict && !c.only_classifies()) {
    for (const char* name : {"--do_train", "--do_eval", "--do_predict"})
      if (app.count(name) > 0) fail(ErrorCode::usage, name, " is false, and nothing else is asked for");
    a.do_train = a.do_eval = true;
  }
  const auto given = [&](const char* name) {
    return json.contains(name) || app.count("--" + std::string(name)) > 0;
  };
  if (c.only_classifies()) refuse_what_classifying_ignores(app);
  withdraw_defaults(given, a);
  c.overwrites_demonstration = c.data_dir.empty() && !given("output_dir");
  a.validate();
  check(c);
  return c;
}

std::vector<std::string> without_option(int argc, char** argv, const std::string& name) {
  std::vector<std::string> kept;
  for (int i = 0; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == name)
      ++i;
    else if (!word.starts_with(name + "="))
      kept.push_back(word);
  }
  return kept;
}

}  // namespace sinter::train
