// Updates to decide: one for each way through PrepareUpdate.
#pragma once

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "kernels/update.h"

namespace sinter::kernels::testing {

struct UpdateCase {
  std::string what;
  UpdateState state;
  std::optional<double> squared_norm;
  std::int32_t nonfinite = 0;
  double max_norm = 1;
  std::optional<LossScaleRules> loss_scale;
  std::int64_t max_nonfinite_in_a_row = 3;
  std::vector<double> lr = {0, 1e-3, 2e-3, 1e-3};
  std::vector<UpdateGroup> groups = {{1, 0.01}, {0.5, 0}};
  std::int64_t record_count = 5;

  /// Everything but the pointers to state, records and coefficients.
  PrepareUpdate params() const {
    PrepareUpdate p;
    p.record_count = record_count;
    p.max_norm = max_norm;
    p.lr = lr.data();
    p.lr_count = static_cast<std::int64_t>(lr.size());
    p.groups = groups.data();
    p.group_count = static_cast<int>(groups.size());
    p.scales_loss = loss_scale.has_value();
    if (loss_scale) p.loss_scale = *loss_scale;
    p.max_nonfinite_in_a_row = max_nonfinite_in_a_row;
    if (squared_norm) {
      p.squared_norm = &*squared_norm;
      p.nonfinite = &nonfinite;
    }
    return p;
  }
};

inline std::vector<UpdateCase> update_cases() {
  constexpr double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const UpdateState running{.global_step = 13, .scheduler_steps = 2, .adam_t = 2, .nonfinite_in_a_row = 2, .loss = 0.7};
  const auto with = [&](auto change) {
    UpdateState state = running;
    change(state);
    return state;
  };
  const auto scaled = [&](double scale, std::int64_t tracker, double loss = 0.7, std::int32_t halted = 0) {
    return with([&](UpdateState& s) {
      s.scale = scale;
      s.growth_tracker = tracker;
      s.nonfinite_in_a_row = 0;
      s.loss = loss;
      s.halted = halted;
    });
  };
  const LossScaleRules rules{.growth_interval = 3, .min_scale = 0.5};
  std::vector<UpdateCase> cases = {
      {.what = "the first one", .state = {.loss = 1}},
      {.what = "a later one", .state = running},
      {.what = "behind the schedule", .state = with([](UpdateState& s) { s.scheduler_steps = s.adam_t = 1000000; })},
      {.what = "a loss that is inf", .state = with([](UpdateState& s) { s.loss = inf, s.nonfinite_in_a_row = 0; })},
      {.what = "a loss that is NaN and the last", .state = with([](UpdateState& s) { s.loss = nan; })},
      {.what = "halted", .state = with([](UpdateState& s) { s.halted = 1; })},
      {.what = "halted and inf", .state = with([](UpdateState& s) { s.halted = 1, s.loss = -inf; })},
      {.what = "clipped", .state = running, .squared_norm = 9},
      {.what = "a norm just above", .state = running, .squared_norm = 1},
      {.what = "not clipped", .state = running, .squared_norm = 0.25},
      {.what = "no gradient", .state = running, .squared_norm = 0},
      {.what = "a gradient that is inf", .state = running, .squared_norm = inf, .nonfinite = 1},
      {.what = "a gradient that is NaN", .state = running, .squared_norm = nan, .nonfinite = 1},
      {.what = "squares beyond f64", .state = running, .squared_norm = inf},
      {.what = "the same without clipping", .state = running, .squared_norm = inf, .max_norm = inf},
      {.what = "a clean scaled one", .state = scaled(8, 1), .squared_norm = 256, .loss_scale = rules},
      {.what = "a scale that grows", .state = scaled(8, 2), .squared_norm = 4, .max_norm = inf, .loss_scale = rules},
      {.what = "a scale at the end of f32", .state = scaled(0x1p127, 2), .squared_norm = 4, .loss_scale = rules},
      {.what = "an overflow", .state = scaled(8, 2), .squared_norm = inf, .nonfinite = 1, .loss_scale = rules},
      {.what = "a scaled loss that is NaN", .state = scaled(8, 2, nan), .squared_norm = 4, .loss_scale = rules},
      {.what = "down to the floor", .state = scaled(1, 0), .squared_norm = inf, .nonfinite = 1, .loss_scale = rules},
      {.what = "below the floor", .state = scaled(0.75, 2), .squared_norm = nan, .nonfinite = 1, .loss_scale = rules},
      {.what = "halted at the floor", .state = scaled(0.75, 2, 1, 1), .squared_norm = 4, .loss_scale = rules},
      {.what = "one group", .state = running, .groups = {{2, 0.1}}},
      {.what = "no group", .state = running, .groups = {}},
      {.what = "one rate, one record", .state = running, .lr = {0.25}, .record_count = 1},
  };
  UpdateCase many{.what = "more groups than two warps have lanes", .state = running, .groups = {}};
  for (int g = 0; g < 70; ++g) many.groups.push_back({1.0 / (g + 1), 0.01 * g});
  cases.push_back(many);
  return cases;
}

}  // namespace sinter::kernels::testing
