// The figures of step_bench's tables, from launches whose times and costs are known.
#include "bench/step_report.h"

#include <gtest/gtest.h>

namespace sinter::bench {
namespace {

using kernels::KernelId;

/// 1,000 bytes a microsecond and 10,000 FLOPs a microsecond at most.
constexpr Ceilings kCeilings = {1e9, 1e10};

TracedLaunch launch(StepPhase phase, KernelId kernel, const char* module, double microseconds, double bytes,
                    double flops) {
  return {.phase = phase, .kernel = kernel, .variant = "plain", .op = "op", .module = module,
          .cost = {bytes / 2, bytes / 2, flops}, .microseconds = microseconds};
}

StepReport report() {
  StepReport made{.device = "a device", .backend = "a backend", .job = "tiny", .samples = 16, .tokens = 211};
  made.spans = {2.5, 2.0, 4.0};
  made.replayed = true;
  made.ceilings = kCeilings;
  made.launches = {
      launch(StepPhase::forward, KernelId::gemm, "bert.encoder.layer.0.output", 10, 1000, 50000),
      launch(StepPhase::forward, KernelId::layer_norm, "bert.encoder.layer.0.output", 3, 2000, 100),
      launch(StepPhase::forward, KernelId::gemm, "bert.encoder.layer.11.output", 20, 1000, 50000),
      launch(StepPhase::backward, KernelId::gemm, "bert.encoder.layer.11.output", 40, 1000, 300000),
      launch(StepPhase::update, KernelId::adamw, "", 27, 20000, 100),
  };
  return made;
}

TEST(StepReport, TheFloorIsTheLongerOfMovingAndComputing) {
  EXPECT_DOUBLE_EQ(floor_of({600, 400, 5000}, kCeilings), 1);     // 1 us of bytes, 0.5 of FLOPs
  EXPECT_DOUBLE_EQ(floor_of({600, 400, 50000}, kCeilings), 5);
  EXPECT_DOUBLE_EQ(floor_of({600, 400, 50000}, {}), 0);
}

TEST(StepReport, PhasesAreSums) {
  const std::vector<StepRow> rows = phases(report());
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].launches, 3);
  EXPECT_DOUBLE_EQ(rows[0].microseconds, 33);
  EXPECT_DOUBLE_EQ(rows[0].floor, 5 + 2 + 5);
  EXPECT_DOUBLE_EQ(rows[1].floor, 30);
  EXPECT_DOUBLE_EQ(rows[2].above_floor(), 27 - 20);
}

TEST(StepReport, LayersShareARowAndTheSlowestComesFirst) {
  const std::vector<StepRow> rows = kernels_of(report());
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].kernel, "gemm");
  EXPECT_EQ(rows[0].module, "bert.encoder.layer.*.output");
  EXPECT_EQ(rows[0].launches, 2);
  EXPECT_DOUBLE_EQ(rows[0].microseconds, 30);
  EXPECT_EQ(rows[1].kernel, "layer_norm");
  EXPECT_EQ(rows[2].phase, StepPhase::backward);
  EXPECT_EQ(rows[3].kernel, "adamw");
}

TEST(StepReport, TheTextNamesTheLargestTerm) {
  const std::string said = markdown(report());
  const auto says = [&](const char* words) { EXPECT_NE(said.find(words), std::string::npos) << words << "\n" << said; };
  says("A step takes 2.500 ms (median of 3 spans, 2.000 to 4.000), replayed as a graph: 6400 samples/s.");
  says("Its 5 kernels, timed one by one in another run, take 0.100 ms together, and 0.062 ms at the speed of this");
  says("| all | 5 | 100.0 | 100.0 |");
  // 30 us of 100, 2,000 bytes and 100,000 FLOPs: 67 MB/s is 0.1 GB/s; 3.33 GFLOP/s is 0.003 TFLOP/s.
  says("| forward | gemm (plain) in bert.encoder.layer.*.output | 2 | 30.0 | 30.0 | 0.1 | 0.003 | 10.0 | 3.00 | 20.0");
  says("The largest term above its floor: forward, gemm (plain) in bert.encoder.layer.*.output, 20.0 us of 30.0.");
}

TEST(StepReport, WithoutCeilingsThereIsNoFloor) {
  StepReport emulated = report();
  emulated.ceilings = {};
  const std::string said = markdown(emulated);
  EXPECT_NE(said.find("what the device could do was not measured"), std::string::npos) << said;
  EXPECT_EQ(said.find("largest term"), std::string::npos);
}

TEST(StepReport, TheFileHasEveryLaunch) {
  const Json json = to_json(report());
  EXPECT_EQ(json.at("launches").size(), 5u);
  const Json& first = json.elements("launches").front();
  EXPECT_EQ(first.get<std::string>("module"), "bert.encoder.layer.0.output");
  EXPECT_EQ(first.get<double>("us"), 10);
  EXPECT_EQ(first.get<double>("floor_us"), 5);
  EXPECT_EQ(json.at("ms_per_step").get<double>("median"), 2.5);
}

}  // namespace
}  // namespace sinter::bench
