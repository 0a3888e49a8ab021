// The rules of a dynamic loss scale, kept by the host's class and by kernels.
#include "optim/loss_scaler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "optim/queued_update.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

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

/// A loss scale, kept by the host or by the kernels of a device.
class KeptScale {
 public:
  virtual ~KeptScale() = default;
  /// False where the scale would fall below its floor.
  virtual bool update(bool found_inf) = 0;
  virtual double scale() = 0;
  /// One that goes on from here.
  virtual std::unique_ptr<KeptScale> resumed() = 0;
};

class OnHost final : public KeptScale {
 public:
  explicit OnHost(LossScalerOptions options) : options_(options), scaler_(options) {}

  bool update(bool found_inf) override {
    try {
      scaler_.update(found_inf);
    } catch (const Error& error) {
      EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ErrorCode::diverged)) << error.what();
      return false;
    }
    return true;
  }
  double scale() override { return scaler_.scale(); }
  std::unique_ptr<KeptScale> resumed() override {
    auto next = std::make_unique<OnHost>(options_);
    next->scaler_.load_state(Json::parse(scaler_.state().dump(), "scaler.json"));
    return next;
  }

 private:
  LossScalerOptions options_;
  LossScaler scaler_;
};

class OnDevice final : public KeptScale {
 public:
  OnDevice(LossScalerOptions options, Device device)
      : options_(options), device_(device), weight_(Tensor::ones({3}, {Dtype::f32, device})),
        optimizer_({{{{"weight", weight_.set_requires_grad()}}}}, {}),
        queued_(optimizer_, {.loss_scaler = options, .lr = {0.1}}) {}

  bool update(bool found_inf) override {
    queued_.add_loss(found_inf ? infinite_ : finite_);
    queued_.run();
    const std::vector<kernels::UpdateRecord> records = queued_.drain();
    EXPECT_EQ(records.size(), 1u);
    EXPECT_EQ(records.back().skipped, found_inf ? 1 : 0);
    return records.back().halted == 0;
  }
  double scale() override {
    EXPECT_EQ(queued_.loss_gradient().item(), queued_.read_state().scale);
    return queued_.read_state().scale;
  }
  std::unique_ptr<KeptScale> resumed() override {
    auto next = std::make_unique<OnDevice>(options_, device_);
    next->queued_.write_state(queued_.read_state());
    return next;
  }

 private:
  LossScalerOptions options_;
  Device device_;
  Tensor weight_;
  AdamW optimizer_;
  QueuedUpdate queued_;
  Tensor finite_ = Tensor::zeros({}, {Dtype::f32, device_});
  Tensor infinite_ = Tensor::full({}, HUGE_VAL, {Dtype::f32, device_});
};

/// No device: the host's class.
class LossScale : public ::testing::TestWithParam<std::optional<Device>> {
 protected:
  void SetUp() override {
    if (!GetParam()) return;
    if (const std::string why = sinter::testing::why_not_on(*GetParam()); !why.empty()) GTEST_SKIP() << why;
  }
  static std::unique_ptr<KeptScale> make(LossScalerOptions options) {
    if (GetParam()) return std::make_unique<OnDevice>(options, *GetParam());
    return std::make_unique<OnHost>(options);
  }
};

INSTANTIATE_TEST_SUITE_P(Keepers, LossScale,
                         ::testing::Values(std::nullopt, Device::cpu(), Device::simt(), Device::simt(1),
                                           Device::cuda()),
                         [](const auto& tested) {
                           if (!tested.param) return std::string("host");
                           std::string name = tested.param->str();
                           std::erase(name, ':');
                           return name;
                         });

TEST_P(LossScale, GrowsAndBacksOffAsTorch) {
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
    const std::unique_ptr<KeptScale> kept = make(row.options);
    for (std::size_t i = 0; i < row.updates.size(); ++i) {
      EXPECT_TRUE(kept->update(row.updates[i] == 'x'));
      EXPECT_EQ(kept->scale(), row.scales[i]) << "after update " << i;
    }
  }
}

TEST_P(LossScale, DefaultsAreTorchs) {
  const std::unique_ptr<KeptScale> kept = make({});
  for (int i = 0; i < 1999; ++i) ASSERT_TRUE(kept->update(false));
  EXPECT_EQ(kept->scale(), 65536);
  kept->update(false);
  EXPECT_EQ(kept->scale(), 131072);
  kept->update(true);
  EXPECT_EQ(kept->scale(), 65536);
}

TEST_P(LossScale, StopsAtTheFloor) {
  const std::unique_ptr<KeptScale> kept = make({.init_scale = 2, .min_scale = 1});
  EXPECT_TRUE(kept->update(true));
  EXPECT_FALSE(kept->update(true));
  EXPECT_EQ(kept->scale(), 1);
}

TEST_P(LossScale, ResumesInTheMiddleOfAnInterval) {
  const std::unique_ptr<KeptScale> stopped = make({.init_scale = 8, .growth_interval = 3});
  stopped->update(true);
  stopped->update(false);
  const std::unique_ptr<KeptScale> resumed = stopped->resumed();
  for (int i = 0; i < 4; ++i) {
    stopped->update(false);
    resumed->update(false);
    EXPECT_EQ(resumed->scale(), stopped->scale()) << i;
  }
  EXPECT_EQ(resumed->scale(), 8);
}

TEST(LossScaler, NamesTheFloor) {
  LossScaler scaler({.init_scale = 1});
  expect_error([&] { scaler.update(true); }, ErrorCode::diverged,
               "not finite at a loss scale of 1, which may not fall below 1");
  EXPECT_EQ(scaler.scale(), 1);
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
