#include "optim/loss_scaler.h"

#include <cmath>

#include "core/error.h"
#include "kernels/update.h"

namespace sinter::optim {
namespace {

LossScalerOptions checked(const LossScalerOptions& options) {
  const auto require = [](bool holds, const char* field, double value, const char* rule) {
    if (!holds) fail(ErrorCode::usage, "LossScaler: ", field, " is ", value, ", it must ", rule);
  };
  const auto is_scale = [](double value) { return value > 0 && std::isfinite(static_cast<float>(value)); };
  require(is_scale(options.min_scale), "min_scale", options.min_scale, "be positive and finite in f32");
  require(is_scale(options.init_scale) && options.init_scale >= options.min_scale, "init_scale", options.init_scale,
          "be finite in f32 and not below min_scale");
  require(options.growth_factor > 1 && std::isfinite(options.growth_factor), "growth_factor", options.growth_factor,
          "be finite and above 1");
  require(options.backoff_factor > 0 && options.backoff_factor < 1, "backoff_factor", options.backoff_factor,
          "lie between 0 and 1");
  require(options.growth_interval >= 1, "growth_interval", static_cast<double>(options.growth_interval),
          "be at least 1");
  return options;
}

}  // namespace

kernels::LossScaleRules loss_scale_rules(const LossScalerOptions& options) {
  checked(options);
  return {options.growth_factor, options.backoff_factor, options.growth_interval, options.min_scale};
}

LossScaler::LossScaler(LossScalerOptions options) : options_(checked(options)), scale_(options.init_scale) {}

void LossScaler::update(bool found_inf) {
  if (!kernels::update_loss_scale(loss_scale_rules(options_), found_inf, scale_, growth_tracker_))
    fail(ErrorCode::diverged, "the gradients are not finite at a loss scale of ", scale_, ", which may not fall below ",
         options_.min_scale, ": lower learning_rate, look at the data, or train with bf16");
}

Json LossScaler::state() const { return Json::object({{"scale", scale_}, {"growth_tracker", growth_tracker_}}); }

void LossScaler::load_state(const Json& state) {
  const double scale = state.get<double>("scale", options_.min_scale);
  if (!std::isfinite(static_cast<float>(scale))) state.refuse("scale", "be finite in f32");
  growth_tracker_ = state.get<std::int64_t>("growth_tracker", 0, options_.growth_interval - 1);
  scale_ = scale;
}

}  // namespace sinter::optim
