#include "bench/step_report.h"

#include <algorithm>
#include <cctype>
#include <tuple>

#include "bench/figures.h"

namespace sinter::bench {
namespace {

constexpr const char* kColumns =
    "launches | us | %% of all | GB/s | TFLOP/s | floor us | times floor | us above |\n";

/// The path with every number as a star.
std::string without_numbers(const std::string& path) {
  std::string kept;
  for (const char c : path) {
    const bool digit = std::isdigit(static_cast<unsigned char>(c)) != 0;
    if (!digit) kept += c;
    if (digit && (kept.empty() || kept.back() == '.')) kept += '*';
  }
  return kept;
}

double total_of(const std::vector<TracedLaunch>& launches) {
  double total = 0;
  for (const TracedLaunch& launch : launches) total += launch.microseconds;
  return total;
}

void add(StepRow& row, const TracedLaunch& launch, const Ceilings& ceilings) {
  ++row.launches;
  row.microseconds += launch.microseconds;
  row.floor += floor_of(launch.cost, ceilings);
  row.cost.bytes_read += launch.cost.bytes_read;
  row.cost.bytes_written += launch.cost.bytes_written;
  row.cost.flops += launch.cost.flops;
}

std::string cells(const StepRow& row, double total) {
  const double us = std::max(row.microseconds, 1e-3);   // a clock may not have ticked
  std::string line = text(" %lld | %.1f | %.1f | %.1f | %.3f |", static_cast<long long>(row.launches),
                          row.microseconds, 100 * row.microseconds / std::max(total, 1e-3),
                          row.cost.bytes() / us * 1e-3, row.cost.flops / us * 1e-6);
  if (row.floor == 0) return line + " | | |\n";
  return line + text(" %.1f | %.2f | %.1f |\n", row.floor, us / row.floor, row.above_floor());
}

std::string name_of(const StepRow& row) {
  return row.kernel + " (" + row.variant + ")" + (row.module.empty() ? "" : " in " + row.module);
}

std::string step_text(const StepReport& report, const StepRow& all) {
  const Spread ms = spread_of(report.spans);
  std::string said = text("%s, %s: %s, %lld tokens.\n\n", report.device.c_str(), report.backend.c_str(),
                          report.job.c_str(), static_cast<long long>(report.tokens));
  said += text("A step takes %.3f ms (median of %zu spans, %.3f to %.3f)%s: %.0f samples/s. ", ms.median,
               report.spans.size(), ms.low, ms.high, report.replayed ? ", replayed as a graph" : "",
               1000 * static_cast<double>(report.samples) / ms.median);
  said += text("Its %lld kernels, timed one by one in another run, take %.3f ms together",
               static_cast<long long>(all.launches), all.microseconds * 1e-3);
  if (all.floor == 0) return said + "; what the device could do was not measured.\n\n";
  return said + text(", and %.3f ms at the speed of this device, of which a plain copy moves %.1f GB/s and a large "
                     "product computes %.3f TFLOP/s here.\n\n",
                     all.floor * 1e-3, report.ceilings.copy * 1e-9, report.ceilings.flops * 1e-12);
}

std::string furthest_text(const std::vector<StepRow>& rows) {
  const auto furthest = std::max_element(rows.begin(), rows.end(), [](const StepRow& a, const StepRow& b) {
    return a.above_floor() < b.above_floor();
  });
  if (furthest == rows.end() || furthest->floor == 0) return "";
  return text("\nThe largest term above its floor: %s, %s, %.1f us of %.1f.\n", name(furthest->phase),
              name_of(*furthest).c_str(), furthest->above_floor(), furthest->microseconds);
}

}  // namespace

double floor_of(const kernels::Cost& cost, const Ceilings& ceilings) {
  const double moved = ceilings.copy > 0 ? cost.bytes() / ceilings.copy : 0;
  const double computed = ceilings.flops > 0 ? cost.flops / ceilings.flops : 0;
  return 1e6 * std::max(moved, computed);
}

std::vector<StepRow> phases(const StepReport& report) {
  std::vector<StepRow> rows;
  for (const StepPhase phase : {StepPhase::forward, StepPhase::backward, StepPhase::update}) {
    StepRow& row = rows.emplace_back(StepRow{.phase = phase});
    for (const TracedLaunch& launch : report.launches)
      if (launch.phase == phase) add(row, launch, report.ceilings);
  }
  return rows;
}

std::vector<StepRow> kernels_of(const StepReport& report) {
  std::vector<StepRow> rows;
  for (const TracedLaunch& launch : report.launches) {
    StepRow like{.phase = launch.phase, .kernel = name(launch.kernel), .variant = launch.variant,
                 .module = without_numbers(launch.module)};
    auto row = std::find_if(rows.begin(), rows.end(), [&](const StepRow& r) {
      return std::tie(r.phase, r.kernel, r.variant, r.module) ==
             std::tie(like.phase, like.kernel, like.variant, like.module);
    });
    if (row == rows.end()) row = rows.insert(rows.end(), std::move(like));
    add(*row, launch, report.ceilings);
  }
  std::stable_sort(rows.begin(), rows.end(), [](const StepRow& a, const StepRow& b) {
    return a.phase != b.phase ? a.phase < b.phase : a.microseconds > b.microseconds;
  });
  return rows;
}

std::string markdown(const StepReport& report) {
  const double total = total_of(report.launches);
  std::vector<StepRow> parts = phases(report);
  StepRow all;
  for (const TracedLaunch& launch : report.launches) add(all, launch, report.ceilings);
  std::string said = step_text(report, all);
  said += "| phase | " + text(kColumns) + "|---|---|---|---|---|---|---|---|---|\n";
  for (const StepRow& part : parts) said += "| " + std::string(name(part.phase)) + " |" + cells(part, total);
  said += "| all |" + cells(all, total);
  const std::vector<StepRow> rows = kernels_of(report);
  said += "\n| phase | kernel | " + text(kColumns) + "|---|---|---|---|---|---|---|---|---|---|\n";
  for (const StepRow& row : rows)
    said += "| " + std::string(name(row.phase)) + " | " + name_of(row) + " |" + cells(row, total);
  if (all.floor > 0)
    said +=
        "\nThe floor is the longer of the time to move the kernel's bytes and to compute its FLOPs. A kernel below it\n"
        "found its operands in a cache, or left out rows that the batch does not touch (adamw, squared_norm; these\n"
        "count all gradients as 16-bit where those of products are).\n";
  return said + furthest_text(rows);
}

Json to_json(const StepReport& report) {
  const Spread ms = spread_of(report.spans);
  Json milliseconds = to_json(ms);
  milliseconds.set("spans", static_cast<std::int64_t>(report.spans.size()));
  Json launches = Json::array();
  for (const TracedLaunch& launch : report.launches)
    launches.push_back(Json::object({{"phase", name(launch.phase)}, {"kernel", name(launch.kernel)},
                                {"variant", launch.variant}, {"op", launch.op}, {"module", launch.module},
                                {"us", launch.microseconds}, {"bytes_read", launch.cost.bytes_read},
                                {"bytes_written", launch.cost.bytes_written}, {"flops", launch.cost.flops},
                                {"floor_us", floor_of(launch.cost, report.ceilings)}}));
  return Json::object(
      {{"device", report.device}, {"backend", report.backend}, {"job", report.job}, {"samples", report.samples},
       {"tokens", report.tokens}, {"replayed", report.replayed},
       {"ms_per_step", std::move(milliseconds)},
       {"copy_bytes_per_s", report.ceilings.copy}, {"product_flops_per_s", report.ceilings.flops},
       {"launches", std::move(launches)}});
}

}  // namespace sinter::bench
