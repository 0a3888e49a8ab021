// sst2: fine-tunes BERT on SST-2, or on generated reviews where there is no data. Options are those of HF's run_glue.
#include <CLI/CLI.hpp>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "core/error.h"
#include "core/io/files.h"
#include "core/runtime/runtime.h"
#include "data/glue.h"
#include "data/reviews.h"
#include "data/tokenizer.h"
#include "nn/pretrained.h"
#include "train/trainer.h"

namespace {

using namespace sinter;

constexpr int kMaxThreads = 256;

struct Options {
  std::string data_dir;
  std::string model_name_or_path;
  std::optional<std::string> resume_from_checkpoint;
  std::optional<std::int64_t> max_train_samples, max_eval_samples;
  std::int64_t max_seq_length = 128;
  bool do_train = false, do_eval = false;
  int num_threads = 0;
  std::string cpu_isa;
  train::TrainingArguments args;
  bool output_dir_given = false;
};

/// The seed's settings for a pretrained model on the real data.
train::TrainingArguments sst2_defaults() {
  train::TrainingArguments args;
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
train::TrainingArguments review_defaults() {
  train::TrainingArguments args = sst2_defaults();
  args.output_dir = "out/reviews";
  args.per_device_train_batch_size = 32;
  args.num_train_epochs = 12;
  args.learning_rate = 5e-4;
  args.warmup_ratio = 0.1;
  args.logging_steps = 250;
  return args;
}

void add_options(CLI::App& app, Options& o) {
  train::TrainingArguments& a = o.args;
  const char* data = "Data and model";
  app.add_option("--data_dir", o.data_dir,
                 "Folder with SST-2's train.tsv and dev.tsv; generated reviews where not given")
      ->group(data);
  app.add_option("--model_name_or_path", o.model_name_or_path,
                 "Model folder: config.json, model.safetensors, vocab.txt; a new small BERT where not given")
      ->group(data);
  app.add_option("--max_seq_length", o.max_seq_length, "Longer sentences are cut to this many tokens")->group(data);
  app.add_option("--max_train_samples", o.max_train_samples, "Train on the first N samples")->group(data);
  app.add_option("--max_eval_samples", o.max_eval_samples, "Evaluate on the first N samples")->group(data);

  const char* run = "Run";
  app.add_flag("--do_train", o.do_train, "Train (with --do_eval: the default)")->group(run);
  app.add_flag("--do_eval", o.do_eval, "Evaluate at the end")->group(run);
  app.add_option("--output_dir", a.output_dir, "Where checkpoints, the model and the metrics go")->group(run);
  app.add_flag("--overwrite_output_dir", a.overwrite_output_dir, "Accept an output_dir that is not empty")->group(run);
  app.add_option("--resume_from_checkpoint", o.resume_from_checkpoint, "A checkpoint folder, or true for the newest")
      ->group(run);
  app.add_option("--seed", a.seed, "Of dropout and new parameters")->group(run);
  app.add_option("--data_seed", a.data_seed, "Of the order of the data; --seed where not given")->group(run);
  app.add_option("--num_threads", o.num_threads, "CPU threads; all cores where not given. Never changes a result")
      ->group(run);
  app.add_option("--cpu_isa", o.cpu_isa, "avx2 or avx512; the best where not given")->group(run);
  app.add_flag("--disable_tqdm", a.disable_tqdm, "No progress bar")->group(run);

  const char* training = "Training";
  app.add_option("--per_device_train_batch_size", a.per_device_train_batch_size, "Samples of a micro-batch")
      ->group(training);
  app.add_option("--per_device_eval_batch_size", a.per_device_eval_batch_size, "Samples of an evaluation batch")
      ->group(training);
  app.add_option("--gradient_accumulation_steps", a.gradient_accumulation_steps, "Micro-batches of an update")
      ->group(training);
  app.add_option("--num_train_epochs", a.num_train_epochs, "Passes over the data, may be fractional")->group(training);
  app.add_option("--max_steps", a.max_steps, "Updates; wins over --num_train_epochs when positive")->group(training);
  app.add_flag("--dataloader_drop_last", a.dataloader_drop_last, "Drop a last incomplete training batch")
      ->group(training);
  app.add_option("--learning_rate", a.learning_rate, "Peak learning rate")->group(training);
  app.add_option("--weight_decay", a.weight_decay, "Of weights, not of biases and LayerNorms")->group(training);
  app.add_option("--adam_beta1", a.adam_beta1, "AdamW's beta1")->group(training);
  app.add_option("--adam_beta2", a.adam_beta2, "AdamW's beta2")->group(training);
  app.add_option("--adam_epsilon", a.adam_epsilon, "AdamW's epsilon")->group(training);
  app.add_option("--max_grad_norm", a.max_grad_norm, "Gradients are clipped to this norm; 0: never")->group(training);
  app.add_option("--lr_scheduler_type", a.lr_scheduler_type, "linear, cosine, constant, constant_with_warmup")
      ->group(training);
  app.add_option("--warmup_steps", a.warmup_steps, "Updates of warm-up")->group(training);
  app.add_option("--warmup_ratio", a.warmup_ratio, "Share of the updates; --warmup_steps wins")->group(training);

  const char* cadence = "Logging, evaluation, saving";
  app.add_option("--logging_strategy", a.logging_strategy, "no, steps or epoch")->group(cadence);
  app.add_option("--logging_steps", a.logging_steps, "Updates between two log lines")->group(cadence);
  app.add_option("--eval_strategy,--evaluation_strategy", a.eval_strategy, "no, steps or epoch")->group(cadence);
  app.add_option("--eval_steps", a.eval_steps, "Updates between two evaluations")->group(cadence);
  app.add_option("--save_strategy", a.save_strategy, "no, steps or epoch")->group(cadence);
  app.add_option("--save_steps", a.save_steps, "Updates between two checkpoints")->group(cadence);
  app.add_option("--save_total_limit", a.save_total_limit, "Checkpoints that are kept; 1 where not given")->group(cadence);
  app.get_formatter()->column_width(42);
}

data::Dataset tokenize(const data::Dataset& dataset, const data::BertTokenizer& tokenizer, std::int64_t max_length,
                       std::optional<std::int64_t> limit) {
  return dataset.take(limit.value_or(dataset.size())).map([&](const data::Batch& batch) {
    return tokenizer(batch.text("sentence"), {.truncation = true, .max_length = max_length});
  });
}

/// A BERT that learns the generated reviews from scratch within minutes.
nn::BertConfig small_config(std::int64_t vocab_size) {
  nn::BertConfig config;
  config.vocab_size = vocab_size;
  config.hidden_size = 128;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 512;
  config.max_position_embeddings = 128;
  config.id2label = {{0, "negative"}, {1, "positive"}};
  return config;
}

/// CLI11 reads "" as 0 and clamps what does not fit. Throws for a number that is not written out whole and in range.
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
      if (text.empty() || read.ptr != end || read.ec != std::errc{})
        fail(ErrorCode::usage, option->get_name(), " is \"", text.substr(0, 100), "\", it must be ",
             type == "INT"     ? "an integer"
             : type == "UINT"  ? "an integer of at least 0"
             : type == "FLOAT" ? "a number"
                               : "a value");
    }
  }
}

void check_options(const Options& o) {
  if (o.max_seq_length < 3) fail(ErrorCode::usage, "max_seq_length is ", o.max_seq_length, ", it must be at least 3");
  for (const auto& [name, value] : {std::pair{"max_train_samples", o.max_train_samples},
                                    std::pair{"max_eval_samples", o.max_eval_samples}})
    if (value && *value < 1) fail(ErrorCode::usage, name, " is ", *value, ", it must be at least 1");
  if (!o.data_dir.empty() && o.model_name_or_path.empty())
    fail(ErrorCode::usage,
         "--data_dir needs --model_name_or_path: a folder with config.json, model.safetensors and vocab.txt");
  if (!o.cpu_isa.empty() && o.cpu_isa != "avx2" && o.cpu_isa != "avx512")
    fail(ErrorCode::usage, "cpu_isa is \"", o.cpu_isa, "\", it must be avx2 or avx512");
  if (o.num_threads < 0 || o.num_threads > kMaxThreads)
    fail(ErrorCode::usage, "num_threads is ", o.num_threads, ", it must lie between 1 and ", kMaxThreads);
  if (o.resume_from_checkpoint && o.do_eval && !o.do_train)
    fail(ErrorCode::usage, "resume_from_checkpoint goes on training, so it needs --do_train; to evaluate a checkpoint give "
                           "its folder as --model_name_or_path");
  if (!o.model_name_or_path.empty() && !std::filesystem::is_directory(o.model_name_or_path))
    fail(ErrorCode::not_found, "model_name_or_path \"", o.model_name_or_path, "\" is no folder; it must be one with "
                               "config.json, model.safetensors and vocab.txt");
}

int run(Options& o) {
  check_options(o);
  Runtime& runtime = Runtime::instance();
  if (o.num_threads > 0) runtime.set_num_threads(o.num_threads);
  if (!o.cpu_isa.empty()) runtime.set_cpu_isa(o.cpu_isa == "avx2" ? kernels::CpuIsa::avx2 : kernels::CpuIsa::avx512);
  if (!o.do_train && !o.do_eval) o.do_train = o.do_eval = true;
  if (o.data_dir.empty() && !o.output_dir_given) o.args.overwrite_output_dir = true;  // the demonstration may run again

  data::Examples train_examples, eval_examples;
  if (o.data_dir.empty()) {
    data::Reviews reviews = data::generate_reviews({.seed = 42});
    train_examples = std::move(reviews.train.examples);
    eval_examples = std::move(reviews.validation.examples);
  } else {
    data::Sst2 sst2 = data::load_sst2(o.data_dir);
    train_examples = std::move(sst2.train);
    eval_examples = std::move(sst2.validation);
  }

  const std::filesystem::path folder = o.model_name_or_path;
  const data::BertTokenizer tokenizer = o.model_name_or_path.empty()
                                            ? data::BertTokenizer(data::review_vocabulary())
                                            : data::BertTokenizer::from_vocab_file(folder / "vocab.txt");
  std::shared_ptr<nn::BertForSequenceClassification> model;
  if (o.model_name_or_path.empty()) {
    model = std::make_shared<nn::BertForSequenceClassification>(small_config(tokenizer.vocab_size()));
    nn::init_weights(*model, model->config.initializer_range, o.args.seed);
  } else {
    model = nn::AutoModelForSequenceClassification::from_pretrained(o.model_name_or_path,
                                                                    {.num_labels = 2, .seed = o.args.seed});
    if (model->config.id2label.empty()) model->config.id2label = {{0, "negative"}, {1, "positive"}};
  }
  const std::int64_t max_length = std::min(o.max_seq_length, model->config.max_position_embeddings);
  const data::Dataset train_set = tokenize(train_examples.dataset(), tokenizer, max_length, o.max_train_samples);
  const data::Dataset eval_set = tokenize(eval_examples.dataset(), tokenizer, max_length, o.max_eval_samples);

  std::printf("data: %s, %lld training and %lld evaluation samples\n",
              o.data_dir.empty() ? "generated reviews" : o.data_dir.c_str(), static_cast<long long>(train_set.size()),
              static_cast<long long>(eval_set.size()));
  std::printf("model: BERT, %lld layers, hidden size %lld, %lld parameters; cpu (%s), %d threads\n",
              static_cast<long long>(model->config.num_hidden_layers),
              static_cast<long long>(model->config.hidden_size), static_cast<long long>(model->num_parameters()),
              runtime.backend(Device::cpu()).description, runtime.num_threads());
  std::fflush(stdout);

  train::Trainer trainer({.model = *model, .args = o.args, .train_dataset = train_set, .eval_dataset = eval_set,
                          .tokenizer = &tokenizer});
  if (o.do_train) {
    const train::TrainOutput output = trainer.train(o.resume_from_checkpoint);
    if (output.stopped_by_signal != 0) {
      std::printf(
          "stopped by signal %d at step %lld; checkpoint saved in %s, go on with --resume_from_checkpoint true\n",
          output.stopped_by_signal, static_cast<long long>(output.global_step), o.args.output_dir.c_str());
      return 128 + output.stopped_by_signal;
    }
    trainer.save_model();
    train::Metrics metrics = output.metrics;
    metrics["train_samples"] = static_cast<double>(train_set.size());
    trainer.save_metrics("train", metrics);
    trainer.save_state();
  }
  if (o.do_eval) {
    train::Metrics metrics = trainer.evaluate();
    metrics["eval_samples"] = static_cast<double>(eval_set.size());
    if (!o.do_train) create_folders(o.args.output_dir);
    trainer.save_metrics("eval", metrics);
    std::printf("accuracy: %.4f\n", metrics.at("eval_accuracy"));
  }
  if (o.do_train) std::printf("model: %s\n", o.args.output_dir.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  // A reader that went away, or a file size limit, is an error of the call that wrote, not the end of the run.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  Options options;
  // The defaults depend on what is trained, so that is looked up before the other options are read.
  const bool real_data = std::any_of(argv + 1, argv + argc, [](const char* arg) {
    return std::string_view(arg).starts_with("--data_dir");
  });
  options.args = real_data ? sst2_defaults() : review_defaults();
  CLI::App app(
      "Fine-tunes BERT for sentence classification. Without options: trains a small BERT on generated reviews.",
      "sst2");
  app.option_defaults()->always_capture_default();
  add_options(app, options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "sst2: %s; sst2 --help lists the options\n", error.what());
    return 2;
  }
  options.output_dir_given = app.count("--output_dir") > 0;
  try {
    check_written_values(app);
    const int code = run(options);
    if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
    std::fprintf(stderr, "sst2: the run is complete, but standard output could not be written\n");
    return 1;
  } catch (const Error& error) {
    std::fprintf(stderr, "sst2: %s\n", error.what());
    const ErrorCode code = error.code();
    return code == ErrorCode::usage || code == ErrorCode::bad_input || code == ErrorCode::not_found ? 2 : 1;
  } catch (const std::filesystem::filesystem_error& error) {  // a path that is not what it should be
    std::fprintf(stderr, "sst2: %s: %s\n", error.path1().c_str(), error.code().message().c_str());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sst2: %s\n", error.what());
    return 1;
  }
}
