#include "optim/loss_scaler.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/core/expect_error.h"

namespace sinter::optim {
namespace {

using sinter::testing::expect_error;
using sinter::testing::expect_usage_error;

// Updates as letters: c clean, x with inf. The scale behind each, after torch.amp.GradScaler's rules.
struct Row {
  LossScalerOptions options;
  std::string updates;
  std::vector<double> scales;
};

TEST(LossScaler, GrowsAndBacksOffAsTorch) {
  const LossScalerOptions every_third = {.init_scale = 8, .growth_interval = 3};
  const Row rows[] = {
      {every_third, "cccccc", {8, 8, 16, 16, 16, 32}},
      {every_third, "ccxccc", {8, 8, 4, 4, 4, 8}},       // an overflow starts the count anew
      {every_third, "cccxc", {8, 8, 16, 8, 8}},
      {every_third, "xxx", {4, 2, 1}},                   // down to the floor itself
      {{.init_scale = 8, .growth_factor = 4, .backoff_factor = 0.25, .growth_interval = 1}, "cxx", {32, 8, 2}},
      {{.init_scale = 0x1p127, .growth_interval = 1}, "cc", {0x1p127, 0x1p127}},   // 2^128 is beyond f32
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.updates);
    LossScaler scaler(row.options);
    for (std::size_t i = 0; i < row.updates.size(); ++i) {
      scaler.update(row.updates[i] == 'x');
      EXPECT_EQ(scaler.scale(), row.scales[i]) << "after update " << i;
    }
  }
}

TEST(LossScaler, DefaultsAreTorchs) {
  LossScaler scaler;
  for (int i = 0; i < 1999; ++i) scaler.update(false);
  EXPECT_EQ(scaler.scale(), 65536);
  scaler.update(false);
  EXPECT_EQ(scaler.scale(), 131072);
  scaler.update(true);
  EXPECT_EQ(scaler.scale(), 65536);
}

TEST(LossScaler, StopsAtTheFloor) {
  LossScaler scaler({.init_scale = 2, .min_scale = 1});
  scaler.update(true);
  expect_error([&] { scaler.update(true); }, ErrorCode::diverged,
               "not finite at a loss scale of 1, which may not fall below 1");
  EXPECT_EQ(scaler.scale(), 1);
}

TEST(LossScaler, ResumesInTheMiddleOfAnInterval) {
  const LossScalerOptions options = {.init_scale = 8, .growth_interval = 3};
  LossScaler stopped(options), resumed(options);
  stopped.update(true);
  stopped.update(false);
  resumed.load_state(Json::parse(stopped.state().dump(), "scaler.json"));
  for (int i = 0; i < 4; ++i) {
    stopped.update(false);
    resumed.update(false);
    EXPECT_EQ(resumed.scale(), stopped.scale()) << i;
  }
  EXPECT_EQ(resumed.scale(), 8);
}

TEST(LossScaler, RefusesWhatIsNoState) {
  LossScaler scaler({.growth_interval = 3});
  const auto load = [&](const char* text) { scaler.load_state(Json::parse(text, "s.json")); };
  expect_error([&] { load(R"({"scale": 0.5, "growth_tracker": 0})"); }, ErrorCode::bad_input, "s.json: scale is 0.5");
  expect_error([&] { load(R"({"scale": 1e39, "growth_tracker": 0})"); }, ErrorCode::bad_input, "finite in f32");
  expect_error([&] { load(R"({"scale": 4, "growth_tracker": 3})"); }, ErrorCode::bad_input, "growth_tracker is 3");
  expect_error([&] { load(R"({"scale": 4})"); }, ErrorCode::bad_input, "growth_tracker is missing");
  EXPECT_EQ(scaler.scale(), 65536);
}

TEST(LossScaler, RefusesWrongOptions) {
  expect_usage_error([] { LossScaler({.init_scale = 0}); }, "init_scale is 0");
  expect_usage_error([] { LossScaler({.init_scale = 1e39}); }, "init_scale is 1e+39");
  expect_usage_error([] { LossScaler({.growth_factor = 1}); }, "growth_factor is 1, it must be finite and above 1");
  expect_usage_error([] { LossScaler({.backoff_factor = 1}); }, "backoff_factor is 1, it must lie between 0 and 1");
  expect_usage_error([] { LossScaler({.growth_interval = 0}); }, "growth_interval is 0");
  expect_usage_error([] { LossScaler({.min_scale = 0}); }, "min_scale is 0");
}

}  // namespace
}  // namespace sinter::optim
