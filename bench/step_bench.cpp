// A whole training step, taken apart: its time, and that of each of its kernels beside what the device could do.
//   step_bench [--device cuda] [--shape bert-base] [--batch_size 16] [--length 0] [--dtype fp16] [--json FILE]
//
// The Trainer trains a model with seeded random weights on random words, every batch of the same sizes. A first run is
// timed in spans, each of which ends when the device has finished. In a second one every kernel is timed too: on CUDA
// devices inside the captured step, in each of its replays (figures are the medians), which therefore takes longer.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bench/step_report.h"
#include "core/error.h"
#include "core/ops/matmul.h"
#include "core/runtime/runtime.h"
#include "nn/bert.h"
#include "nn/layers.h"
#include "train/progress_callback.h"
#include "train/trainer.h"

namespace {

using namespace sinter;
using bench::StepReport;

struct Options {
  std::string device, shape = "bert-base", dtype, json;
  std::int64_t batch_size = 16, length = 0, spans = 9, span = 0;
  bool tune_gemm = false;
};

/// 16 quantiles of the lengths of SST-2's training sentences, with [CLS] and [SEP].
std::int64_t sst2_length(std::int64_t in_batch) {
  constexpr std::int64_t kLengths[] = {4, 4, 5, 6, 7, 7, 8, 10, 11, 12, 14, 16, 19, 23, 28, 37};
  return kLengths[in_batch % std::ssize(kLengths)];
}

nn::BertConfig config_of(const std::string& shape) {
  nn::BertConfig config;   // bert-base
  if (shape == "minilm") config.hidden_size = 384, config.num_hidden_layers = 6, config.intermediate_size = 1536;
  if (shape == "tiny") {
    config.vocab_size = 1000;
    config.hidden_size = 64, config.num_hidden_layers = 2, config.num_attention_heads = 2;
    config.intermediate_size = 128;
  }
  return config;
}

/// Words as frequent as their rank says (Zipf): a batch of SST-2's lengths has as many different ones as SST-2's.
data::Dataset random_sentences(const Options& options, const nn::BertConfig& config, std::int64_t batches) {
  constexpr std::int32_t kClassify = 101, kSeparate = 102, kFirstWord = 103;   // bert-base-uncased's
  constexpr std::int64_t kMostWords = 11573;                                   // that SST-2 uses
  std::vector<double> weights;
  for (std::int64_t rank = 1; rank <= std::min(kMostWords, config.vocab_size - kFirstWord); ++rank)
    weights.push_back(1.0 / static_cast<double>(rank));
  std::discrete_distribution<std::int32_t> word(weights.begin(), weights.end());
  std::mt19937_64 random(42);
  data::Lists ids;
  data::Column::Integers labels;
  for (std::int64_t row = 0; row < batches * options.batch_size; ++row) {
    const std::int64_t length = options.length > 0 ? options.length : sst2_length(row % options.batch_size);
    std::vector<std::int32_t> sentence{kClassify};
    while (static_cast<std::int64_t>(sentence.size()) < length - 1) sentence.push_back(kFirstWord + word(random));
    sentence.push_back(kSeparate);
    ids.push_back(sentence);
    labels.push_back(static_cast<std::int64_t>(random() % 2));
  }
  return data::Dataset(data::Columns{{"input_ids", ids}, {"labels", labels}});
}

/// Looks at a run's clock, and at its kernels when it is asked to.
class StepWatch final : public train::TrainerCallback {
 public:
  /// `warm_up` steps, then spans of `span` steps.
  StepWatch(Device device, std::int64_t warm_up, std::int64_t span, bool traces)
      : device_(device), warm_up_(warm_up), span_(span), traces_(traces) {}

  bool looks_inside_steps() const override { return false; }
  void on_step_begin(train::CallbackContext& run) override {
    if (!traces_ || run.state.global_step < warm_up_ || captured_) return;
    graphs_ = Runtime::instance().counters(device_).graph_launches;
    trace_.emplace(device_);
  }
  void on_step_end(train::CallbackContext& run) override {
    const std::int64_t done = run.state.global_step - warm_up_;
    if (traces_) return read_trace();
    if (done < 0 || done % span_ != 0) return;
    Runtime::instance().synchronize(device_);
    const auto now = std::chrono::steady_clock::now();
    if (done > 0)
      spans_.push_back(std::chrono::duration<double, std::milli>(now - begun_).count() / static_cast<double>(span_));
    begun_ = now;
  }

  const std::vector<double>& spans() const { return spans_; }
  /// With the median of each launch's times.
  std::vector<TracedLaunch> launches() const {
    if (rounds_.empty()) fail(ErrorCode::internal, "no step was traced");
    std::vector<TracedLaunch> medians = rounds_.front();
    for (std::size_t i = 0; i < medians.size(); ++i) {
      std::vector<double> times;
      for (const auto& round : rounds_) times.push_back(round.at(i).microseconds);
      std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
      medians[i].microseconds = times[times.size() / 2];
    }
    return medians;
  }

 private:
  void read_trace() {
    if (!trace_) return;
    trace_->stop();
    captured_ = captured_ || Runtime::instance().counters(device_).graph_launches > graphs_;
    if (!device_.is_cpu() && !captured_) return trace_.reset();   // it ran as it is, to be captured later
    std::vector<TracedLaunch> round = trace_->launches();
    if (!rounds_.empty() && round.size() != rounds_.front().size())
      fail(ErrorCode::internal, "one step launched ", rounds_.front().size(), " kernels, another ", round.size());
    rounds_.push_back(std::move(round));
  }

  Device device_;
  std::int64_t warm_up_, span_;
  bool traces_;
  std::chrono::steady_clock::time_point begun_;
  std::vector<double> spans_;
  std::optional<LaunchTrace> trace_;
  bool captured_ = false;
  std::uint64_t graphs_ = 0;
  std::vector<std::vector<TracedLaunch>> rounds_;
};

/// The Trainer wants an output_dir, and leaves a lock in it.
struct TemporaryFolder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("step_bench-" + std::to_string(std::random_device{}()));

  TemporaryFolder() = default;
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

void train_watched(const Options& options, const std::shared_ptr<StepWatch>& watch, std::int64_t steps) {
  const nn::BertConfig config = config_of(options.shape);
  auto model = std::make_shared<nn::BertForSequenceClassification>(config);
  nn::init_weights(*model, config.initializer_range, 42);
  const TemporaryFolder folder;
  train::Trainer trainer({.model = model,
                          .args = {.output_dir = folder.path.string(),
                                   .per_device_train_batch_size = options.batch_size,
                                   .max_steps = steps,
                                   .weight_decay = 0.01,
                                   .logging_strategy = "no",
                                   .disable_tqdm = true,
                                   .save_strategy = "no",
                                   .train_sampling_strategy = "sequential",
                                   .device = options.device,
                                   .fp16 = options.dtype == "fp16",
                                   .bf16 = options.dtype == "bf16",
                                   .tune_gemm = options.tune_gemm},
                          .train_dataset = random_sentences(options, config, std::min<std::int64_t>(steps, 64)),
                          .callbacks = {watch}});
  trainer.callbacks().pop<train::PrinterCallback>();
  trainer.train();
}

/// The fastest of some calls of what `launch` launches.
template <class Launch>
TracedLaunch fastest(Device device, Launch&& launch) {
  LaunchTrace trace(device);
  for (int call = 0; call < 10; ++call) launch();
  trace.stop();
  const std::vector<TracedLaunch> all = trace.launches();
  return *std::min_element(all.begin(), all.end(), [](const TracedLaunch& a, const TracedLaunch& b) {
    return a.microseconds < b.microseconds;
  });
}

/// Of copies and products that fill the device.
bench::Ceilings measured_ceilings(Device device, Dtype dtype) {
  const NoGradGuard no_grad;
  const std::int64_t mebibytes = device.is_cpu() ? 64 : 512, n = device.is_cpu() ? 2048 : 8192;
  const Tensor large = Tensor::ones({mebibytes << 18}, {Dtype::f32, device});
  const Tensor square = Tensor::full({n, n}, 0.01, {dtype, device});
  const TracedLaunch copied = fastest(device, [&] { static_cast<void>(large.clone()); });
  const TracedLaunch multiplied = fastest(device, [&] { static_cast<void>(matmul(square, square)); });
  return {1e6 * copied.cost.bytes() / copied.microseconds, 1e6 * multiplied.cost.flops / multiplied.microseconds};
}

StepReport measured(const Options& options) {
  const Device device = Device::parse(options.device);
  const Runtime& runtime = Runtime::instance();
  StepReport report{.device = runtime.device_name(device), .backend = runtime.backend(device).description};
  report.samples = options.batch_size;
  for (std::int64_t b = 0; b < options.batch_size; ++b)
    report.tokens += options.length > 0 ? options.length : sst2_length(b);
  report.job = options.shape + ", " + options.dtype + ", " + std::to_string(options.batch_size) + " sentences" +
               (options.length > 0 ? " of " + std::to_string(options.length) + " tokens" : " as long as SST-2's");
  // Steps of which the first are not like the others: memory is taken, graphs are captured, algorithms tried.
  const std::int64_t warm_up = options.tune_gemm ? 110 : device.is_cpu() ? 2 : 5;
  const auto clock = std::make_shared<StepWatch>(device, warm_up, options.span, false);
  train_watched(options, clock, warm_up + options.spans * options.span);
  report.spans = clock->spans();
  const auto kernels = std::make_shared<StepWatch>(device, device.is_cpu() ? warm_up : 1, 1, true);
  train_watched(options, kernels, warm_up + options.spans);
  report.launches = kernels->launches();
  report.replayed = !device.is_cpu();
  const Dtype dtype = options.dtype == "fp16" ? Dtype::f16 : options.dtype == "bf16" ? Dtype::bf16 : Dtype::f32;
  // An emulated device shows what is launched, and not how fast.
  if (device.type() != DeviceType::simt) report.ceilings = measured_ceilings(device, dtype);
  return report;
}

Options parsed(int argc, char** argv) {
  Options o;
  CLI::App app("Times a training step and each of its kernels.");
  app.add_option("--device", o.device, "cpu, cuda, cuda:N or simt; the default is CUDA where it can be used");
  app.add_option("--shape", o.shape, "bert-base, minilm or tiny")
      ->check(CLI::IsMember({"bert-base", "minilm", "tiny"}));
  app.add_option("--batch_size", o.batch_size)->check(CLI::Range(1, 1 << 20));
  app.add_option("--length", o.length, "tokens of every sentence; the default, 0, is lengths as SST-2's")
      ->check(CLI::IsMember({0}) | CLI::Range(2, 512));
  app.add_option("--dtype", o.dtype, "f32, fp16 or bf16; the default is fp16 on CUDA, else f32")
      ->check(CLI::IsMember({"f32", "fp16", "bf16"}));
  app.add_option("--spans", o.spans, "that are timed")->check(CLI::Range(1, 1000));
  app.add_option("--span", o.span, "steps of a span; the default is 25 on CUDA, else 2")->check(CLI::Range(1, 1000));
  app.add_flag("--tune_gemm", o.tune_gemm, "the Trainer's option");
  app.add_option("--json", o.json, "also writes every launch to this file");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    std::exit(0);
  } catch (const CLI::ParseError& error) {
    fail(ErrorCode::usage, error.what());
  }
  const bool cuda = Runtime::instance().why_unusable(Device::cuda()).empty();
  if (o.device.empty()) o.device = cuda ? "cuda" : "cpu";
  const DeviceType type = Device::parse(o.device).type();
  if (o.dtype.empty()) o.dtype = type == DeviceType::cuda ? "fp16" : "f32";
  if (o.span == 0) o.span = type == DeviceType::cuda ? 25 : 2;
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parsed(argc, argv);
    const StepReport report = measured(options);
    std::fputs(bench::markdown(report).c_str(), stdout);
    if (!options.json.empty()) bench::to_json(report).save(options.json);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "step_bench: %s\n", error.what());
    return 1;
  }
}
