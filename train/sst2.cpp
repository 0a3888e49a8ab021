// sst2: fine-tunes BERT on SST-2, or on generated reviews where there is no data; evaluates, predicts and classifies.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/shown.h"
#include "core/log.h"
#include "core/runtime/runtime.h"
#include "data/auto_tokenizer.h"
#include "data/load_dataset.h"
#include "data/reviews.h"
#include "nn/pretrained.h"
#include "train/checkpoint.h"
#include "train/command_line.h"
#include "train/ending.h"
#include "train/ranks/world.h"
#include "train/trainer.h"

namespace {

using namespace sinter;

long long number(std::int64_t n) { return static_cast<long long>(n); }

constexpr std::int64_t kSmallPositions = 128;

/// A BERT that learns the generated reviews from scratch within a minute.
nn::BertConfig small_config(std::int64_t vocab_size) {
  nn::BertConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 128;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 512;
  config.max_position_embeddings = kSmallPositions;
  config.id2label = {{0, "negative"}, {1, "positive"}};
  return config;
}

/// A model, and the tokenizer whose ids it reads.
struct Job {
  data::BertTokenizer tokenizer;
  std::shared_ptr<nn::BertForSequenceClassification> model;
  std::int64_t max_length;

  explicit Job(const train::CommandLine& c);
  data::Dataset tokenize(const data::Dataset& dataset, std::optional<std::int64_t> limit) const;
};

data::BertTokenizer load_tokenizer(const train::CommandLine& c) {
  if (c.model_name_or_path.empty())
    return data::BertTokenizer(data::review_vocabulary(), {.model_max_length = kSmallPositions});
  return data::AutoTokenizer::from_pretrained(c.model_name_or_path);
}

/// Classification keeps the model's own labels; training and evaluation need the two of SST-2.
std::shared_ptr<nn::BertForSequenceClassification> load_model(const train::CommandLine& c, std::int64_t vocab_size) {
  if (c.model_name_or_path.empty()) {
    auto model = std::make_shared<nn::BertForSequenceClassification>(small_config(vocab_size));
    nn::init_weights(*model, model->config.initializer_range, c.args.seed);
    return model;
  }
  nn::PretrainedOptions options{.ignore_mismatched_sizes = c.ignore_mismatched_sizes, .seed = c.args.seed};
  if (!c.only_classifies()) options.num_labels = 2;
  auto model = nn::AutoModelForSequenceClassification::from_pretrained(c.model_name_or_path, options);
  if (model->config.id2label.empty() && !c.only_classifies())
    model->config.id2label = {{0, "negative"}, {1, "positive"}};
  return model;
}

Job::Job(const train::CommandLine& c)
    : tokenizer(load_tokenizer(c)),
      model(load_model(c, tokenizer.size())),
      max_length(std::min(c.max_seq_length, model->config.max_position_embeddings)) {
  if (const std::string warning = nn::check_vocabulary(tokenizer.size(), model->config); !warning.empty())
    log_info(warning);
  if (max_length < c.max_seq_length)
    log_info("max_seq_length is " + std::to_string(c.max_seq_length) + ", and the model has " +
             std::to_string(max_length) + " positions: sentences are cut to those");
}

/// The class that the model means by each of SST-2's, where both names are among its own (run_glue's rule), else the
/// same number: a model that was trained elsewhere may count POSITIVE first.
std::vector<std::int64_t> class_numbers(const nn::BertConfig& config) {
  std::vector<std::int64_t> numbers;
  for (const std::string_view name : {"negative", "positive"})
    for (const auto& [number, label] : config.id2label)
      if (std::equal(label.begin(), label.end(), name.begin(), name.end(),
                     [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; }))
        numbers.push_back(number);
  return numbers.size() == 2 ? numbers : std::vector<std::int64_t>{0, 1};
}

/// The labels as the model counts them; -1 (unknown) stays.
data::Dataset with_labels_of(const nn::BertConfig& config, const data::Dataset& dataset) {
  const std::vector<std::int64_t> numbers = class_numbers(config);
  if (numbers == std::vector<std::int64_t>{0, 1} || !dataset.has_column("label")) return dataset;
  log_info("labels are numbered as the model does: " + config.label_name(0) + ", " + config.label_name(1));
  return dataset.map([&](const data::Batch& batch) {
    std::vector<std::int64_t> labels;
    for (const std::int64_t label : batch.integers("label"))
      labels.push_back(label < 0 ? label : numbers[static_cast<std::size_t>(label)]);
    return data::Columns{{"label", data::Column(std::move(labels))}};
  });
}

data::Dataset Job::tokenize(const data::Dataset& dataset, std::optional<std::int64_t> limit) const {
  return with_labels_of(model->config, dataset.take(limit.value_or(dataset.size()))).map([&](const data::Batch& batch) {
    return tokenizer(batch.text("sentence"), {.truncation = true, .max_length = max_length});
  });
}

const data::Dataset& split(const train::CommandLine& c, const data::DatasetDict& splits, const char* name,
                           const char* file) {
  if (!splits.contains(name))
    fail(ErrorCode::not_found, "data_dir ", c.data_dir, " has no ", file, ", the ", name, " split that this run needs");
  return splits[name];
}

/// "cuda:0 (NVIDIA H200; CUDA runtime 13.0, cuBLASLt 13.1.0, cuDNN 9.28.1)";
/// "cpu (avx512, 2 threads); CUDA is not usable: there is no NVIDIA driver".
std::string described_device(const train::TrainingArguments& args) {
  const Runtime& runtime = Runtime::instance();
  const Device device = Device::parse(args.resolved().device);
  if (device.type() == DeviceType::simt) return device.str() + " (" + runtime.device_name(device) + ")";
  if (!device.is_cpu())
    return device.str() + " (" + runtime.device_name(device) + "; " + runtime.backend(device).description + ")";
  std::string text = std::string("cpu (") + runtime.backend(device).description + ", " +
                     std::to_string(runtime.num_threads()) + (runtime.num_threads() == 1 ? " thread)" : " threads)");
  if (args.device.empty() && !args.use_cpu)
    text += "; CUDA is not usable: " + runtime.why_unusable(Device::cuda());
  return text;
}

void describe(const train::CommandLine& c, const Job& job, int ranks,
              const std::vector<std::pair<const char*, std::optional<data::Dataset>>>& sets) {
  std::string samples;
  for (const auto& [name, set] : sets)
    if (set) samples += ", " + std::to_string(set->size()) + " " + name + " samples";
  std::printf("data: %s%s\n", c.data_dir.empty() ? "generated reviews" : c.data_dir.c_str(), samples.c_str());
  std::printf("model: BERT, %lld layers, hidden size %lld, %lld parameters\n",
              number(job.model->config.num_hidden_layers), number(job.model->config.hidden_size),
              number(job.model->num_parameters()));
  std::printf("device: %s\n", described_device(c.args).c_str());
  if (ranks > 1)
    std::printf("ranks: %d, each with such a device; %lld samples in an update\n", ranks,
                number(ranks * c.args.per_device_train_batch_size * c.args.gradient_accumulation_steps));
  std::fflush(stdout);
}

/// A model inside of output_dir would go with the checkpoints of the run that is replaced.
void check_source_survives(const std::string& model, const std::filesystem::path& output_dir) {
  if (!std::filesystem::is_directory(model) || !std::filesystem::is_directory(output_dir)) return;
  const std::string source = std::filesystem::canonical(model), target = std::filesystem::canonical(output_dir);
  if (source.starts_with(target + "/"))
    fail(ErrorCode::usage, "model_name_or_path ", model, " lies in output_dir ", output_dir.string(),
         ", whose checkpoints this run replaces; choose another output_dir");
}

/// The exit code of a run that a signal stopped, else 0.
int train_model(train::Trainer& trainer, const std::optional<std::string>& checkpoint, std::int64_t samples) {
  const train::TrainOutput output = trainer.train(checkpoint);
  if (output.stopped_by_signal != 0) {
    const char* signal = output.stopped_by_signal == SIGINT ? "Ctrl-C" : strsignal(output.stopped_by_signal);
    if (output.global_step == 0) {
      std::printf("stopped by %s before the first step\n", signal);
    } else {
      std::printf("stopped by %s at step %lld; checkpoint saved in %s, go on with --resume_from_checkpoint true\n",
                  signal, number(output.global_step), trainer.args().output_dir.c_str());
    }
    return 128 + output.stopped_by_signal;
  }
  trainer.save_model();
  train::Metrics metrics = output.metrics;
  metrics["train_samples"] = static_cast<double>(samples);
  trainer.save_metrics("train", metrics);
  trainer.save_state();
  return 0;
}

void evaluate(train::Trainer& trainer, std::int64_t samples) {
  train::Metrics metrics = trainer.evaluate();
  metrics["eval_samples"] = static_cast<double>(samples);
  trainer.save_metrics("eval", metrics);
  if (const auto accuracy = metrics.find("eval_accuracy"); accuracy != metrics.end())
    std::printf("accuracy: %.4f\n", accuracy->second);
}

/// The class with the largest logit, and its probability.
struct Answer {
  std::int64_t label;
  double probability;
};

std::vector<Answer> classified(train::Trainer& trainer, const data::Dataset& dataset, std::int64_t num_labels) {
  if (num_labels < 2) fail(ErrorCode::usage, "the model has one output, a regression's; classes need at least two");
  const std::vector<float> logits = trainer.predict(dataset).predictions;
  const auto labels = static_cast<std::size_t>(num_labels);
  std::vector<Answer> answers;
  for (std::size_t i = 0; i < logits.size(); i += labels) {
    const std::span<const float> row = std::span(logits).subspan(i, labels);
    const auto best = std::max_element(row.begin(), row.end());
    double sum = 0;
    for (const float logit : row) sum += std::exp(static_cast<double>(logit - *best));
    answers.push_back({best - row.begin(), 1 / sum});
  }
  return answers;
}

/// As a field of a table with tabs: control characters become '?'.
std::string field(std::string_view text) { return shown(text, std::string::npos); }

/// run_glue's file of the test split's labels.
void write_predictions(train::Trainer& trainer, const Job& job, const data::Dataset& test,
                       const std::filesystem::path& folder) {
  const std::vector<Answer> answers = classified(trainer, test, job.model->config.num_labels);
  if (!trainer.is_world_process_zero()) return;
  std::string text = "index\tprediction\n";
  std::int64_t index = 0;
  for (const Answer& answer : answers)
    text += std::to_string(index++) + "\t" + field(job.model->config.label_name(answer.label)) + "\n";
  create_folders(folder);
  write_file_atomically(folder / "predict_results_sst2.txt", text);
  std::printf("predictions: %s\n", (folder / "predict_results_sst2.txt").c_str());
}

int fine_tune(train::CommandLine c, const train::World& world) {
  const train::TrainingArguments& args = c.args;
  if (c.overwrites_demonstration) {
    c.args.overwrite_output_dir = true;
    if (args.do_train && std::filesystem::exists(std::filesystem::path(args.output_dir) / "config.json"))
      log_info(args.output_dir + " holds the model of an earlier run, which this one replaces");
  }
  const data::DatasetDict splits = c.data_dir.empty() ? data::review_dataset({.seed = 42})
                                                      : data::load_dataset("glue", "sst2", {.data_dir = c.data_dir});
  Job job(c);
  std::optional<data::Dataset> train_set, eval_set, test_set;
  if (args.do_train) train_set = job.tokenize(split(c, splits, "train", "train.tsv"), c.max_train_samples);
  if (args.do_eval || (args.do_train && args.eval_strategy != "no"))
    eval_set = job.tokenize(split(c, splits, "validation", "dev.tsv"), c.max_eval_samples);
  if (args.do_predict) test_set = job.tokenize(split(c, splits, "test", "test.tsv"), c.max_predict_samples);
  describe(c, job, world.size(), {{"training", train_set}, {"evaluation", eval_set}, {"prediction", test_set}});
  if (!args.do_train) {  // the cadences are those of a training
    c.args.eval_strategy = c.args.save_strategy = "no";
    c.args.save_total_limit.reset();
  }

  data::DataCollator collator;
  if (c.pad_to_max_length)
    collator = data::DataCollatorWithPadding(job.tokenizer, {.padding = "max_length", .max_length = job.max_length});
  train::Trainer::Parts parts{.model = job.model, .args = args, .train_dataset = train_set, .eval_dataset = eval_set,
                              .tokenizer = job.tokenizer, .data_collator = collator,
                              .compute_metrics = train::load_metric("accuracy"), .process_group = world.group()};
  if (const auto reporter = world.reporter()) parts.callbacks.push_back(reporter);
  train::Trainer trainer(std::move(parts));
  const std::string output_dir = trainer.args().output_dir;   // without a ~
  if (args.do_train) {
    const std::string from = args.resume_from_checkpoint.value_or("false");
    const bool begins = from == "false" || (from == "auto" && !train::newest_valid_checkpoint(output_dir));
    if (args.overwrite_output_dir && begins) check_source_survives(c.model_name_or_path, output_dir);
    if (const int code = train_model(trainer, args.resume_from_checkpoint, train_set->size()); code != 0) return code;
  } else {
    train::check_output_dir(output_dir);
  }
  if (args.do_eval) evaluate(trainer, eval_set->size());
  if (args.do_predict) write_predictions(trainer, job, *test_set, output_dir);
  if (args.do_train) std::printf("model: %s\n", output_dir.c_str());
  return 0;
}

std::vector<std::string> lines_of(std::istream& in) {
  std::vector<std::string> lines;
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  for (std::string line; std::getline(in, line);) {
    if (lines.empty() && line.starts_with(kByteOrderMark)) line.erase(0, kByteOrderMark.size());
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

/// One line for each sentence: label, its probability, the sentence, with tabs between them.
int classify(const train::CommandLine& c, const train::World& world) {
  std::vector<std::string> sentences = c.sentences;
  if (c.predict_file == "-") {
    const std::vector<std::string> lines = lines_of(std::cin);
    sentences.insert(sentences.end(), lines.begin(), lines.end());
  } else if (!c.predict_file.empty()) {
    if (!std::filesystem::exists(c.predict_file) || std::filesystem::is_directory(c.predict_file))
      fail(ErrorCode::not_found, "predict_file ", c.predict_file, " is no file; give one with a sentence a line, or -");
    std::ifstream file(c.predict_file, std::ios::binary);
    if (!file) fail(ErrorCode::io, "predict_file ", c.predict_file, " cannot be read");
    const std::vector<std::string> lines = lines_of(file);
    sentences.insert(sentences.end(), lines.begin(), lines.end());
  }
  if (sentences.empty())
    fail(ErrorCode::bad_input, "predict_file ", c.predict_file, " has no line; give one sentence a line");
  Job job(c);
  const data::Dataset dataset =
      job.tokenize(data::Dataset(data::Columns{{"sentence", data::Column(sentences)}}), std::nullopt);
  train::TrainingArguments args = c.args;
  args.eval_strategy = args.save_strategy = "no";
  args.save_total_limit.reset();
  args.load_best_model_at_end = args.prediction_loss_only = false;
  train::Trainer trainer(
      {.model = job.model, .args = args, .tokenizer = job.tokenizer, .process_group = world.group()});
  const std::vector<Answer> answers = classified(trainer, dataset, job.model->config.num_labels);
  for (std::size_t i = 0; i < answers.size(); ++i)
    std::printf("%s\t%.4f\t%s\n", field(job.model->config.label_name(answers[i].label)).c_str(),
                answers[i].probability, field(sentences[i]).c_str());
  return 0;
}

/// Ranks but the first keep silent; what goes wrong on them they still say.
void silence() {
  if (std::freopen("/dev/null", "w", stdout) == nullptr) fail(ErrorCode::io, "/dev/null cannot be written");
  set_log_sink([](const std::string&) {});
}

/// Runs the ranks of --nproc, and gives their exit code; nothing where there are none to start.
std::optional<int> start_ranks(const train::CommandLine& c, const train::LaunchEnvironment& environment, int argc,
                               char** argv) {
  if (environment.launcher.empty() && c.nproc > 1) {
    const Device device = Device::parse(c.args.resolved().device);
    Runtime::instance().backend(device);   // what is wrong with it is said once, and not by every rank
    return train::start_ranks(static_cast<int>(c.nproc), train::without_option(argc, argv, "--nproc"), device);
  }
  if (c.nproc > 0 && c.nproc != environment.world_size)
    fail(ErrorCode::usage, "nproc is ", c.nproc, ", but ", environment.launcher, " has started ",
         environment.world_size, " ranks; leave --nproc out");
  return std::nullopt;
}

/// Of several ranks on GPUs each takes one of its own.
void choose_device(const train::LaunchEnvironment& environment, train::TrainingArguments* args) {
  const Device chosen = Device::parse(args->resolved().device);
  if (chosen.type() != DeviceType::cuda || environment.world_size == 1) return;
  const bool by_number = args->device.find(':') != std::string::npos;
  args->device =
      train::device_of_rank(environment, chosen, by_number, Runtime::instance().device_count(DeviceType::cuda)).str();
}

int run(int argc, char** argv) {
  const train::LaunchEnvironment environment = train::from_environment();
  std::optional<train::CommandLine> c = train::parse_command_line(argc, argv);
  if (!c) return 0;
  if (const std::optional<int> code = start_ranks(*c, environment, argc, argv)) return *code;
  Runtime& runtime = Runtime::instance();
  const int threads = c->num_threads > 0 ? static_cast<int>(c->num_threads) : train::threads_of_rank(environment);
  if (threads != runtime.num_threads()) runtime.set_num_threads(threads);
  if (!c->cpu_isa.empty())
    runtime.set_cpu_isa(c->cpu_isa == "avx2" ? kernels::CpuIsa::avx2 : kernels::CpuIsa::avx512);
  if (!c->args.device.empty()) runtime.backend(Device::parse(c->args.device));   // before any file is read
  choose_device(environment, &c->args);
  train::World world(environment, Device::parse(c->args.resolved().device), std::chrono::seconds(c->ddp_timeout));
  if (world.rank() > 0) silence();
  return world.run("sst2", [&] { return c->only_classifies() ? classify(*c, world) : fine_tune(*c, world); });
}

/// A standard stream that the caller closed would be the next file that is opened. What is opened here cannot be
/// written, so that output that goes nowhere is noticed.
void open_standard_streams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream)
    if (fcntl(stream, F_GETFD) == -1) [[maybe_unused]] const int opened = open("/dev/null", O_RDONLY);
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  // A reader that went away, or a file size limit, is an error of the call that wrote, not the end of the run.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  return train::run_program("sst2", [&] { return run(argc, argv); });
}
