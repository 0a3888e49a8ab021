// How training scales over ranks: collective operations, steps of several ranks beside one alone, how much of the
// communication is hidden, and a model that goes on from there to 8 and 64 ranks (bench/scale_model.h).
//   mpirun -np 2 build/release/bin/scale_bench [--shape minilm] [--batch_size 16] [--json FILE]
//   build/release/bin/scale_bench --nproc 2
//
// Every rank computes with equally many threads in everything that is compared. While one rank is measured alone, the
// others sleep; they do not wait in MPI, which would keep their cores busy.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/bert_job.h"
#include "bench/collective_times.h"
#include "bench/measure.h"
#include "bench/program.h"
#include "bench/rank_steps.h"
#include "bench/scale_report.h"
#include "core/collective_trace.h"
#include "core/error.h"
#include "core/runtime/runtime.h"
#include "nn/layers.h"
#include "train/command_line.h"
#include "train/ending.h"
#include "train/ranks/launch_environment.h"
#include "train/ranks/world.h"

namespace {

using namespace sinter;
using bench::RankSteps;
using bench::ScaleReport;
using bench::Scaling;
using bench::StepParts;

constexpr std::int64_t kWarmUp = 2;     // steps
constexpr std::int64_t kBatches = 8;    // different ones
constexpr std::chrono::seconds kTimeout{60};
/// Between nodes, where nothing else is said, in GB/s: a link of 100 Gbit/s; eight of 400 Gbit/s beside GPUs.
constexpr double kNodeBandwidth = 12.5, kGpuNodeBandwidth = 400;

struct Options {
  bench::BertJob job{.shape = "minilm"};
  std::string device, json;
  std::int64_t nproc = 0, num_threads = 0, bucket_mib = 25, spans = 5, span = 2;
  std::int64_t min_bytes = 4 << 10, max_bytes = 64 << 20, repetitions = 15;
  double node_bandwidth = 0, node_latency = 5;   // GB/s, us
};

/// Nothing where only --help was asked for.
std::optional<Options> parsed(int argc, char** argv) {
  Options o;
  bench::OptionTable table("scale_bench", "Measures how training scales over ranks, under mpirun or with --nproc.");
  table.word("--device", o.device, "cpu, cuda, cuda:N or simt; the default is CUDA where it can be used");
  o.job.add_options(table);
  table.integer("--nproc", o.nproc, 2, 1024, "ranks, which mpirun starts; left out where it has started them")
      .integer("--num_threads", o.num_threads, 1, 256, "CPU threads of a rank; the default is its share of the cores")
      .integer("--ddp_bucket_cap_mb", o.bucket_mib, 1, 1 << 20, "MiB of gradients that travel at once, 25")
      .integer("--spans", o.spans, 1, 1000, "of steps that are timed, 5")
      .integer("--span", o.span, 1, 1000, "steps of a span, 2")
      .integer("--min_bytes", o.min_bytes, 64, std::int64_t{1} << 32, "of collective operations, 4096")
      .integer("--max_bytes", o.max_bytes, 64, std::int64_t{1} << 32, "of collective operations, 67108864")
      .integer("--repetitions", o.repetitions, 1, 10000, "of each operation and size, 15")
      .number("--node_bandwidth", o.node_bandwidth, 1e-3, 1e6,
              "GB/s between nodes that the model assumes; the default is 12.5, with --device cuda 400")
      .number("--node_latency", o.node_latency, 0, 1e6, "us of a hop between nodes that the model assumes, 5")
      .word("--json", o.json, "also writes every figure to this file");
  if (!table.parse(argc, argv)) return std::nullopt;
  o.job.check();
  if (o.max_bytes < 4 * o.min_bytes)
    fail(ErrorCode::usage, "--max_bytes is ", o.max_bytes, ", it must be at least four times --min_bytes, ",
         o.min_bytes, ": the model draws a line through several sizes");
  if (o.device.empty()) o.device = Runtime::instance().why_unusable(Device::cuda()).empty() ? "cuda" : "cpu";
  Runtime::instance().backend(Device::parse(o.device));   // it can be used, or why not, before any rank is started
  const bool cuda = Device::parse(o.device).type() == DeviceType::cuda;
  if (o.node_bandwidth == 0) o.node_bandwidth = cuda ? kGpuNodeBandwidth : kNodeBandwidth;
  return o;
}

void check_ranks(const Options& o, int ranks) {
  if (ranks == 1)
    fail(ErrorCode::usage, "this is one rank, and there is nothing to compare; start several with --nproc 2 or with ",
         "mpirun -np 2");
  if (o.job.batch_size % ranks != 0)
    fail(ErrorCode::usage, "--batch_size is ", o.job.batch_size, ", it must be a multiple of the ", ranks,
         " ranks, which share a batch out in strong scaling");
}

/// This rank's part of every batch: a batch of its own, or each R-th sample of one that all share.
bench::RankBatches batches_of(const bench::BertJob& job, const ProcessGroup& ranks, bool shared) {
  const std::int64_t stride = shared ? ranks.size() : 1, first = shared ? ranks.rank() : 0;
  const data::Dataset sentences = job.sentences(kBatches, shared ? 42 : 42 + static_cast<std::uint64_t>(ranks.rank()));
  const data::DataCollatorWithFlattening collate;
  bench::RankBatches batches{.samples = shared ? job.batch_size : job.batch_size * ranks.size()};
  for (std::int64_t batch = 0; batch < kBatches; ++batch) {
    std::vector<std::int64_t> rows;
    for (std::int64_t b = first; b < job.batch_size; b += stride) rows.push_back(batch * job.batch_size + b);
    batches.parts.push_back(collate(sentences, rows, ranks.rank() * std::ssize(rows)));
  }
  return batches;
}

/// Seconds of a step in each span of rank 0, which alone has `steps`, while the others sleep. These do not hear when it
/// has done: it says beforehand how long it wants it quiet, and measures again what took longer.
std::vector<double> time_alone(ProcessGroup& ranks, RankSteps* steps, const Options& o) {
  std::vector<double> spans;
  double length = 0;   // of a span
  const auto run = [&] {
    const double begin = bench::seconds_now();
    steps->run(o.span);
    length = bench::seconds_now() - begin;
  };
  if (steps != nullptr) steps->run(kWarmUp), run();
  for (;;) {
    const auto missing = static_cast<double>(o.spans - std::ssize(spans));
    const double wanted = steps != nullptr && missing > 0 ? 1.25 * missing * length + 0.2 : 0;
    const double quiet = ranks.all_reduce_sums(std::vector<double>{wanted})[0];
    if (quiet == 0) return spans;
    const double end = bench::seconds_now() + quiet;
    if (steps == nullptr) std::this_thread::sleep_for(std::chrono::duration<double>(quiet));
    while (steps != nullptr && std::ssize(spans) < o.spans && bench::seconds_now() + length < end) {
      run();
      if (bench::seconds_now() < end) spans.push_back(length / static_cast<double>(o.span));
    }
  }
}

bench::StepTime time_together(ProcessGroup& ranks, RankSteps&& steps, const Options& o) {
  std::vector<double> spans;
  CollectiveSeconds sum;
  steps.run(kWarmUp);
  for (std::int64_t span = 0; span < o.spans; ++span) {
    ranks.barrier();
    const CollectiveTrace trace;
    const double begin = bench::seconds_now();
    steps.run(o.span);
    spans.push_back((bench::seconds_now() - begin) / static_cast<double>(o.span));
    const CollectiveSeconds seconds = seconds_of(trace.operations());
    sum.under_way += seconds.under_way, sum.hidden += seconds.hidden;
  }
  const std::vector<double> of_all = ranks.all_reduce_sums(std::vector<double>{sum.under_way, sum.hidden});
  const auto count = static_cast<double>(o.spans * o.span * ranks.size());
  return {bench::spread_of(bench::slowest(ranks, spans)), of_all[0] / count, of_all[1] / count};
}

/// Fills parts and compute: all ranks compute at once, and nothing travels.
void time_apart(ProcessGroup& ranks, RankSteps&& steps, const Options& o, Scaling& scaling) {
  std::vector<StepParts> all;
  std::vector<double> seconds;
  steps.run(kWarmUp);
  ranks.barrier();
  for (std::int64_t step = 0; step < o.spans * o.span; ++step) {
    all.push_back(steps.run_apart());
    seconds.push_back(all.back().compute());
  }
  const auto median = [&](const auto& part_of) {
    std::vector<double> values;
    for (const StepParts& parts : all) values.push_back(part_of(parts));
    return bench::slowest(ranks, {bench::median_of(std::move(values))})[0];
  };
  StepParts& parts = scaling.parts = all.front();
  parts.forward = median([](const StepParts& p) { return p.forward; });
  parts.backward = median([](const StepParts& p) { return p.backward; });
  parts.update = median([](const StepParts& p) { return p.update; });
  for (std::size_t b = 0; b < parts.buckets.size(); ++b)
    parts.buckets[b].ready = median([b](const StepParts& p) { return p.buckets[b].ready; });
  scaling.compute = bench::spread_of(bench::slowest(ranks, seconds));
}

Scaling measured_scaling(const std::shared_ptr<ProcessGroup>& ranks, nn::BertForSequenceClassification& model,
                         const Options& o, bool shared) {
  const bench::RankBatches batches = batches_of(o.job, *ranks, shared);
  Scaling scaling{.name = shared ? "strong" : "weak", .samples = batches.samples};
  const double tokens = static_cast<double>(batches.parts.front().token_count);
  scaling.most_tokens = static_cast<std::int64_t>(bench::slowest(*ranks, {tokens})[0]);
  scaling.fewest_tokens = static_cast<std::int64_t>(-bench::slowest(*ranks, {-tokens})[0]);
  const std::int64_t bucket = o.bucket_mib << 20;
  time_apart(*ranks, {model, batches, {.bucket_bytes = bucket}}, o, scaling);
  scaling.overlapped = time_together(*ranks, {model, batches, {.ranks = ranks, .bucket_bytes = bucket}}, o);
  scaling.after = time_together(*ranks, {model, batches, {.ranks = ranks, .bucket_bytes = 0}}, o);
  scaling.zero = time_together(
      *ranks, {model, batches, {.ranks = ranks, .bucket_bytes = bucket, .shards_states = true}}, o);
  return scaling;
}

void measure_alone(ProcessGroup& ranks, nn::BertForSequenceClassification& model, const Options& o,
                   ScaleReport& report) {
  const bench::RankBatches batches = batches_of(o.job, ranks, false);
  report.alone_samples = o.job.batch_size;
  for (const bool defers : {false, true}) {
    std::optional<RankSteps> steps;
    if (ranks.rank() == 0) steps.emplace(model, batches, bench::Sharing{.defers_rows = defers});
    const std::vector<double> spans = time_alone(ranks, steps ? &*steps : nullptr, o);
    if (!steps) continue;
    report.gradient_bytes = steps->gradient_bytes();
    (defers ? report.alone_deferring : report.alone) = bench::spread_of(spans);
  }
}

/// Whole on rank 0.
ScaleReport measured(const std::shared_ptr<ProcessGroup>& ranks, Device device, const Options& o) {
  const Runtime& runtime = Runtime::instance();
  ScaleReport report{.device = runtime.device_name(device), .backend = runtime.backend(device).description,
                     .job = o.job.describe("f32"), .ranks = ranks->size(), .threads = runtime.num_threads(),
                     .bucket_mib = o.bucket_mib, .is_emulated = device.type() == DeviceType::simt};
  report.collectives = bench::time_collectives(*ranks, device, o.min_bytes, o.max_bytes, o.repetitions);
  nn::BertForSequenceClassification model(o.job.config());
  nn::init_weights(model, model.config.initializer_range, 42);
  model.to(device);
  model.train();
  measure_alone(*ranks, model, o, report);
  for (const bool shared : {false, true}) report.scalings.push_back(measured_scaling(ranks, model, o, shared));
  report.network = {.inside = bench::link_of(bench::fit(report.collectives), ranks->size()),
                    .between = {.hop = 1e-6 * o.node_latency, .per_byte = 1e-9 / o.node_bandwidth},
                    .ranks_per_node = 8,
                    .direct = device.type() != DeviceType::cuda};
  return report;
}

/// The ranks, of which the others learn it when this one ends of an error.
int report(train::World& world, Device device, const Options& o, bool several_nodes) {
  ScaleReport report = measured(world.group(), device, o);
  report.several_nodes = several_nodes;
  if (world.rank() == 0) {
    std::fputs(bench::markdown(report).c_str(), stdout);
    if (!o.json.empty()) bench::to_json(report).save(o.json);
  }
  return 0;
}

int run(int argc, char** argv) {
  const train::LaunchEnvironment environment = train::from_environment();
  const std::optional<Options> options = parsed(argc, argv);
  if (!options) return 0;
  const Options& o = *options;
  if (!environment.launcher.empty() && o.nproc > 0 && o.nproc != environment.world_size)
    fail(ErrorCode::usage, "--nproc is ", o.nproc, ", but ", environment.launcher, " has started ",
         environment.world_size, " ranks; leave --nproc out");
  const bool starts = environment.launcher.empty() && o.nproc > 0;
  check_ranks(o, starts ? static_cast<int>(o.nproc) : environment.world_size);
  if (!o.json.empty() && environment.rank == 0) bench::check_can_be_written(o.json);
  if (starts)
    return train::start_ranks(static_cast<int>(o.nproc), train::without_option(argc, argv, "--nproc"),
                              Device::parse(o.device));
  Runtime& runtime = Runtime::instance();
  runtime.set_num_threads(o.num_threads > 0 ? static_cast<int>(o.num_threads) : train::threads_of_rank(environment));
  const Device chosen = Device::parse(o.device);
  const bool by_number = o.device.find(':') != std::string::npos;
  const Device device = train::device_of_rank(environment, chosen, by_number, runtime.device_count(chosen.type()));
  train::World world(environment, device, kTimeout);
  const bool several_nodes = environment.local_world_size != environment.world_size;
  return world.run("scale_bench", [&] { return report(world, device, o, several_nodes); });
}

}  // namespace

int main(int argc, char** argv) {
  return train::run_program("scale_bench", [&] { return run(argc, argv); });
}
