// A whole training step, taken apart: its time, and that of each of its kernels beside what the device could do.
//   step_bench [--device cuda] [--shape bert-base] [--batch_size 16] [--length 0] [--dtype fp16] [--json FILE]
//
// The Trainer trains a model with seeded random weights on random words, every batch of the same sizes. A first run is
// timed in spans, each of which ends when the device has finished. In a second one every kernel is timed too: on CUDA
// devices inside the captured step, in each of its replays (figures are the medians), which therefore takes longer.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "bench/bert_job.h"
#include "bench/figures.h"
#include "bench/program.h"
#include "bench/step_report.h"
#include "core/error.h"
#include "core/ops/matmul.h"
#include "core/runtime/runtime.h"
#include "nn/bert.h"
#include "nn/layers.h"
#include "train/ending.h"
#include "train/progress_callback.h"
#include "train/trainer.h"

namespace {

using namespace sinter;
using bench::StepReport;

struct Options {
  bench::BertJob job;
  std::string device, dtype, json;
  std::int64_t spans = 9, span = 0;
  bool tune_gemm = false;
};

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
      medians[i].microseconds = bench::median_of(std::move(times));
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
  const nn::BertConfig config = options.job.config();
  auto model = std::make_shared<nn::BertForSequenceClassification>(config);
  nn::init_weights(*model, config.initializer_range, 42);
  const TemporaryFolder folder;
  train::Trainer trainer({.model = model,
                          .args = {.output_dir = folder.path.string(),
                                   .per_device_train_batch_size = options.job.batch_size,
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
                          .train_dataset = options.job.sentences(std::min<std::int64_t>(steps, 64), /*seed=*/42),
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
  report.samples = options.job.batch_size;
  for (std::int64_t b = 0; b < report.samples; ++b) report.tokens += options.job.tokens_of(b);
  report.job = options.job.describe(options.dtype);
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

/// Nothing where only --help was asked for.
std::optional<Options> parsed(int argc, char** argv) {
  Options o;
  bench::OptionTable table("step_bench", "Times a training step and each of its kernels.");
  table.word("--device", o.device, "cpu, cuda, cuda:N or simt; the default is CUDA where it can be used");
  o.job.add_options(table);
  table.choice("--dtype", o.dtype, {"f32", "fp16", "bf16"}, "f32, fp16 or bf16; the default is fp16 on CUDA, else f32")
      .integer("--spans", o.spans, 1, 1000, "that are timed, 9")
      .integer("--span", o.span, 1, 1000, "steps of a span; the default is 25 on CUDA, else 2")
      .flag("--tune_gemm", o.tune_gemm, "the Trainer's option")
      .word("--json", o.json, "also writes every launch to this file");
  if (!table.parse(argc, argv)) return std::nullopt;
  o.job.check();
  if (!o.json.empty()) bench::check_can_be_written(o.json);
  const bool cuda = Runtime::instance().why_unusable(Device::cuda()).empty();
  if (o.device.empty()) o.device = cuda ? "cuda" : "cpu";
  const DeviceType type = Device::parse(o.device).type();
  if (o.dtype.empty()) o.dtype = type == DeviceType::cuda ? "fp16" : "f32";
  if (o.span == 0) o.span = type == DeviceType::cuda ? 25 : 2;
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  return train::run_program("step_bench", [&] {
    const std::optional<Options> options = parsed(argc, argv);
    if (!options) return 0;
    const StepReport report = measured(*options);
    std::fputs(bench::markdown(report).c_str(), stdout);
    if (!options->json.empty()) bench::to_json(report).save(options->json);
    return 0;
  });
}
