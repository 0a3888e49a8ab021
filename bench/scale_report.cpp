#include "bench/scale_report.h"

#include <algorithm>
#include <utility>

namespace sinter::bench {
namespace {

constexpr const char* kOverlapped = "beside backward";
constexpr const char* kAfter = "after backward";
constexpr const char* kZero = "ZeRO 1, beside backward";

long long number(std::int64_t n) { return static_cast<long long>(n); }
double ms(double seconds) { return 1e3 * seconds; }

/// Of a fit, which may find that bytes cost nothing.
std::string bandwidth_text(double per_byte) {
  return per_byte > 0 ? text("%.3f GB/s", 1e-9 / per_byte) : "a bandwidth without limit";
}

/// A row of the table of steps.
struct StepRow {
  std::string scaling, gradients;
  std::int64_t samples;
  const Spread* seconds;
  int ranks;
};

std::vector<StepRow> step_rows(const ScaleReport& report) {
  std::vector<StepRow> rows = {{"one rank alone", "", report.alone_samples, &report.alone, 1},
                               {"one rank alone", "rows of the word table wait", report.alone_samples,
                                &report.alone_deferring, 1}};
  for (const Scaling& s : report.scalings) {
    rows.push_back({s.name, "none: only computes", s.samples, &s.compute, report.ranks});
    rows.push_back({s.name, kOverlapped, s.samples, &s.overlapped.seconds, report.ranks});
    rows.push_back({s.name, kAfter, s.samples, &s.after.seconds, report.ranks});
    rows.push_back({s.name, kZero, s.samples, &s.zero.seconds, report.ranks});
  }
  return rows;
}

double samples_per_second(const StepRow& row) { return static_cast<double>(row.samples) / row.seconds->median; }
/// In samples a second, over one rank alone.
double speed_up(const StepRow& row, const ScaleReport& report) {
  return samples_per_second(row) * report.alone.median / static_cast<double>(report.alone_samples);
}

std::string head_text(const ScaleReport& r) {
  const double mebibytes = static_cast<double>(r.gradient_bytes) / (1 << 20);
  std::string said = text("%s, %s; %d ranks of %d %s each: %s, gradients of %.1f MiB in buckets of %lld.\n",
                          r.device.c_str(), r.backend.c_str(), r.ranks, r.threads,
                          r.threads == 1 ? "thread" : "threads", r.job.c_str(), mebibytes, number(r.bucket_mib));
  if (r.is_emulated) said += "The device is emulated on the CPU: no time here says anything about a GPU.\n";
  return said;
}

std::string collectives_text(const ScaleReport& report) {
  std::string said =
      "\n## Collective operations\n\n"
      "As in nccl-tests: t is the median of repetitions, of which the slowest rank counts; S is what every rank holds\n"
      "whole (the tensor of all_reduce and broadcast, the input of reduce_scatter, the output of all_gather);\n"
      "algbw = S / t; busbw = algbw times 2 (R - 1) / R for all_reduce, (R - 1) / R for reduce_scatter and\n"
      "all_gather, 1 for broadcast. Elements are f32; GB are 10^9 bytes.\n\n"
      "| operation | S bytes | t us | lowest | highest | algbw GB/s | busbw GB/s |\n|---|---|---|---|---|---|---|\n";
  for (const CollectiveTime& c : report.collectives)
    said += text("| %s | %lld | %.1f | %.1f | %.1f | %.3f | %.3f |\n", c.operation.c_str(), number(c.bytes),
                 1e6 * c.seconds.median, 1e6 * c.seconds.low, 1e6 * c.seconds.high, 1e-9 * c.algbw(),
                 1e-9 * c.algbw() * bus_factor(c.operation, report.ranks));
  return said;
}

std::string steps_text(const ScaleReport& report) {
  std::string said =
      "\n## Training steps\n\n"
      "Forward, backward, sums over the ranks, gradient norm, AdamW: in f32, every kernel launched by itself, no\n"
      "graphs. t is the median of spans, of which the slowest rank counts. Speed-up is in samples a second over one\n"
      "rank alone, which ran with as many threads while the others slept, and updated every row of the word table as\n"
      "ranks together do; efficiency is speed-up over ranks. Alone the Trainer lets rows wait that a batch does not\n"
      "hold: the second row.\n";
  for (const Scaling& s : report.scalings)
    if (s.fewest_tokens != s.most_tokens)
      said += text("In %s scaling a rank has from %lld to %lld tokens in a step.\n", s.name.c_str(),
                   number(s.fewest_tokens), number(s.most_tokens));
  said += "\n| scaling | gradients travel | samples | t ms | lowest | highest | samples/s | speed-up | efficiency |\n"
          "|---|---|---|---|---|---|---|---|---|\n";
  for (const StepRow& row : step_rows(report))
    said += text("| %s | %s | %lld | %.3f | %.3f | %.3f | %.1f | %.2f | %.1f %% |\n", row.scaling.c_str(),
                 row.gradients.c_str(), number(row.samples), ms(row.seconds->median), ms(row.seconds->low),
                 ms(row.seconds->high), samples_per_second(row), speed_up(row, report),
                 100 * speed_up(row, report) / row.ranks);
  return said;
}

std::string hidden_row(const Scaling& scaling, const char* gradients, const StepTime& time) {
  const std::string row = "| " + scaling.name + " | " + gradients + " |";
  if (time.under_way == 0) return row + " not traced | | |";   // the device alone knows
  return row + text(" %.3f | %.3f | %.1f %% |", ms(time.under_way), ms(time.hidden), 100 * time.hidden_share());
}

std::string hidden_text(const ScaleReport& report) {
  std::string said =
      "\n## Communication that backward hides\n\n"
      "Traced: of the time during which operations of a step were under way (mean of the ranks; waiting for a rank\n"
      "that comes later counts), the part before the rank began to wait for them. A rank whose core the operation\n"
      "took did not wait either: where ranks have no core to spare for communication, only step times tell. From step\n"
      "times: how much of what communication behind backward adds to a step that only computes is saved by buckets\n"
      "beside backward; below 0 where that costs more than it hides.\n\n"
      "| scaling | gradients travel | under way ms | hidden ms | share | share from step times |\n"
      "|---|---|---|---|---|---|\n";
  for (const Scaling& s : report.scalings) {
    said += hidden_row(s, kOverlapped, s.overlapped) +
            text(" %.1f %% |\n", 100 * hidden_by_times(s.compute.median, s.after.seconds.median,
                                                      s.overlapped.seconds.median));
    said += hidden_row(s, kAfter, s.after) + " |\n" + hidden_row(s, kZero, s.zero) + " |\n";
  }
  return said;
}

std::string parts_text(const ScaleReport& report) {
  std::string said = "\n## Model\n\n";
  const Line line = fit(report.collectives);
  said += text("all_reduce of n bytes, fitted to the times above: %.1f us + n / (%s).\n", 1e6 * line.latency,
               bandwidth_text(line.per_byte).c_str());
  for (const Scaling& s : report.scalings) {
    said += text("%s scaling: forward %.3f ms, backward %.3f, update %.3f; buckets of MiB at ms of backward:",
                 s.name.c_str(), ms(s.parts.forward), ms(s.parts.backward), ms(s.parts.update));
    for (const Bucket& bucket : s.parts.buckets)
      said += text(" %.1f at %.3f,", bucket.bytes / (1 << 20), ms(bucket.ready));
    said.back() = '.';
    said += "\n";
  }
  said += "\nAssumptions:\n\n";
  for (const std::string& sentence : assumptions(report)) said += "- " + sentence + "\n";
  return said;
}

std::string predictions_text(const ScaleReport& report) {
  std::string said = "\n| ranks | scaling | gradients travel | predicted ms | measured ms | difference | hidden | "
                     "samples/s | efficiency |\n|---|---|---|---|---|---|---|---|---|\n";
  for (const PredictedStep& p : predictions(report)) {
    said += text("| %d | %s | %s | %.3f |", p.ranks, p.scaling.c_str(), p.gradients.c_str(), ms(p.prediction.step));
    said += p.measured ? text(" %.3f | %+.1f %% |", ms(*p.measured), 100 * (p.prediction.step / *p.measured - 1))
                       : " not measured | |";
    const double rate = static_cast<double>(p.samples) / p.prediction.step;
    const double alone = static_cast<double>(report.alone_samples) / report.alone.median;
    said += text(" %.1f %% | %.1f | %.1f %% |\n", 100 * p.prediction.hidden(), rate, 100 * rate / alone / p.ranks);
  }
  return said;
}

Json to_json(const StepParts& parts) {
  Json buckets = Json::array();
  for (const Bucket& bucket : parts.buckets)
    buckets.push_back(Json::object({{"ready_s", bucket.ready}, {"bytes", bucket.bytes}}));
  return Json::object({{"forward_s", parts.forward}, {"backward_s", parts.backward}, {"update_s", parts.update},
                       {"buckets", std::move(buckets)}});
}

Json to_json(const StepTime& time) {
  return Json::object({{"seconds", to_json(time.seconds)}, {"under_way_s", time.under_way}, {"hidden_s", time.hidden},
                       {"hidden_share", time.hidden_share()}});
}

Json to_json(const Scaling& s) {
  const double by_times =
      hidden_by_times(s.compute.median, s.after.seconds.median, s.overlapped.seconds.median);
  return Json::object({{"scaling", s.name}, {"samples", s.samples}, {"fewest_tokens", s.fewest_tokens},
                       {"most_tokens", s.most_tokens}, {"parts", to_json(s.parts)}, {"compute", to_json(s.compute)},
                       {"beside_backward", to_json(s.overlapped)}, {"after_backward", to_json(s.after)},
                       {"zero_1", to_json(s.zero)}, {"hidden_share_from_step_times", by_times}});
}

Json model_json(const ScaleReport& report) {
  Json sentences = Json::array(), steps = Json::array();
  for (const std::string& sentence : assumptions(report)) sentences.push_back(sentence);
  for (const PredictedStep& p : predictions(report)) {
    Json step = Json::object({{"ranks", p.ranks}, {"scaling", p.scaling}, {"gradients", p.gradients},
                              {"samples", p.samples}, {"step_s", p.prediction.step},
                              {"communication_s", p.prediction.communication},
                              {"exposed_s", p.prediction.exposed}});
    if (p.measured) step.set("measured_s", *p.measured);
    steps.push_back(std::move(step));
  }
  const Line line = fit(report.collectives);
  return Json::object({{"all_reduce_latency_s", line.latency}, {"all_reduce_s_per_byte", line.per_byte},
                       {"assumptions", std::move(sentences)}, {"predictions", std::move(steps)}});
}

}  // namespace

Line fit(const std::vector<CollectiveTime>& collectives) {
  std::vector<std::pair<double, double>> points;
  for (const CollectiveTime& c : collectives)
    if (c.operation == "all_reduce") points.emplace_back(static_cast<double>(c.bytes), c.seconds.median);
  return fit_line(points);
}

std::vector<PredictedStep> predictions(const ScaleReport& report) {
  std::vector<PredictedStep> steps;
  const auto add = [&](const Scaling& s, const char* gradients, const StepParts& parts, const Network& network,
                       int ranks, std::optional<double> measured) {
    steps.push_back({.scaling = s.name, .gradients = gradients, .ranks = ranks,
                     .samples = s.samples * ranks / report.ranks, .prediction = predict(parts, network, ranks),
                     .measured = measured});
  };
  Network here = report.network;   // whose fit is of all ranks together, wherever these are
  here.ranks_per_node = report.ranks;
  for (const Scaling& s : report.scalings) {
    add(s, kOverlapped, s.parts, here, report.ranks, s.overlapped.seconds.median);
    add(s, kAfter, after_backward(s.parts), here, report.ranks, s.after.seconds.median);
  }
  for (const Scaling& s : report.scalings)
    for (const int ranks : {8, 64})
      if (s.name == "weak" && ranks != report.ranks)
        add(s, kOverlapped, s.parts, report.network, ranks, std::nullopt);
  return steps;
}

std::vector<std::string> assumptions(const ScaleReport& report) {
  const Network& n = report.network;
  std::vector<std::string> said = {
      text("Ranks are like these, on this machine (%s, %s): predictions are for such ranks and for no other device.",
           report.device.c_str(), report.backend.c_str()),
      text("A rank computes as fast among 8 or 64 as among the %d here that computed at once: it has cores and memory "
           "bandwidth of its own as far as it has them here.", report.ranks),
      "Communication takes no time from computation, and all ranks are equally fast.",
      text("An all_reduce of n bytes over R ranks of a node takes 2 (R - 1) hop + 2 (R - 1) / R n / B, with hop = %.2f "
           "us and B = %s from the fit above, whatever R is.", 1e6 * n.inside.hop,
           bandwidth_text(n.inside.per_byte).c_str()),
      "Buckets go one behind the other, each as soon as it is ready and the one before has ended; behind the last come "
      "two all_reduces of 24 and 4 bytes, as in the Trainer, and the update.",
      text("64 ranks are 8 nodes of %d. A node's link, which its ranks share, carries %.1f GB/s (--node_bandwidth), "
           "and a hop between nodes takes %.1f us (--node_latency): both were not measured.", n.ranks_per_node,
           1e-9 / n.between.per_byte, 1e6 * n.between.hop)};
  said.push_back(n.direct ? "Every rank exchanges with every other itself (MpiGroup), so the ranks of a node send "
                            "2 L (R - L) / R n bytes over its link, L to a node, behind what stays inside of it."
                          : "Sums are formed inside of a node first, then 2 (N - 1) / N n bytes go over the link of "
                            "each of N nodes, and nothing of this overlaps.");
  double measured = 0, needed = 0;   // bytes
  for (const CollectiveTime& c : report.collectives) measured = std::max(measured, static_cast<double>(c.bytes));
  for (const Scaling& s : report.scalings)
    for (const Bucket& bucket : s.parts.buckets) needed = std::max(needed, bucket.bytes);
  if (needed > measured)
    said.push_back(text("A bucket has up to %.1f MiB and the longest all_reduce above %.3f: the line is drawn on.",
                        needed / (1 << 20), measured / (1 << 20)));
  if (report.several_nodes)
    said.push_back(text("The %d ranks here are on several nodes, so the fit is of their network and not of a node's "
                        "inside, for which it stands.", report.ranks));
  if (report.is_emulated) said.push_back("The device is emulated: nothing is predicted of GPUs.");
  return said;
}

std::string markdown(const ScaleReport& report) {
  return head_text(report) + collectives_text(report) + steps_text(report) + hidden_text(report) +
         parts_text(report) + predictions_text(report);
}

Json to_json(const ScaleReport& report) {
  Json collectives = Json::array(), scalings = Json::array();
  for (const CollectiveTime& c : report.collectives)
    collectives.push_back(Json::object({{"operation", c.operation}, {"bytes", c.bytes},
                                        {"seconds", to_json(c.seconds)}, {"algbw_bytes_per_s", c.algbw()},
                                        {"busbw_bytes_per_s", c.algbw() * bus_factor(c.operation, report.ranks)}}));
  for (const Scaling& s : report.scalings) scalings.push_back(to_json(s));
  return Json::object({{"device", report.device}, {"backend", report.backend}, {"job", report.job},
                       {"ranks", report.ranks}, {"threads_of_rank", report.threads},
                       {"gradient_bytes", report.gradient_bytes}, {"bucket_mib", report.bucket_mib},
                       {"collectives", std::move(collectives)}, {"alone_samples", report.alone_samples},
                       {"alone_s", to_json(report.alone)}, {"alone_deferring_s", to_json(report.alone_deferring)},
                       {"scalings", std::move(scalings)}, {"model", model_json(report)}});
}

}  // namespace sinter::bench
