#include "optim/plateau.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"

namespace sinter::optim {
namespace {

constexpr const char* kSettings[] = {"mode",           "factor",   "patience", "threshold",
                                     "threshold_mode", "cooldown", "min_lr",   "eps"};

template <class T>
void require(bool holds, const char* key, const T& value, const char* rule) {
  if (!holds) fail(ErrorCode::usage, "lr_scheduler_kwargs: ", key, " is ", value, ", it must ", rule);
}

double number(const Json& kwargs, const char* key, double otherwise) {
  const double value = kwargs.get_or<double>(key, otherwise);
  require(std::isfinite(value) && value >= 0, key, value, "be finite and not negative");
  return value;
}

std::int64_t count(const Json& kwargs, const char* key, std::int64_t otherwise) {
  const std::int64_t value = kwargs.get_or<std::int64_t>(key, otherwise);
  require(value >= 0, key, value, "not be negative");
  return value;
}

}  // namespace

ReduceLrOnPlateau::ReduceLrOnPlateau(double lr, const Json& kwargs, bool greater_is_better)
    : lr_(lr),
      greater_is_better_(greater_is_better),
      factor_(number(kwargs, "factor", 0.1)),
      threshold_(number(kwargs, "threshold", 1e-4)),
      min_lr_(number(kwargs, "min_lr", 0)),
      eps_(number(kwargs, "eps", 1e-8)),
      patience_(count(kwargs, "patience", 10)),
      cooldown_(count(kwargs, "cooldown", 0)) {
  for (const auto& [key, value] : kwargs.items())
    if (std::find(std::begin(kSettings), std::end(kSettings), key) == std::end(kSettings))
      fail(ErrorCode::usage, "lr_scheduler_kwargs: the schedule reduce_lr_on_plateau has no setting ", key);
  require(factor_ < 1, "factor", factor_, "be below 1");
  const std::string mode = kwargs.get_or<std::string>("mode", greater_is_better ? "max" : "min");
  require(mode == "min" || mode == "max", "mode", mode, "be min or max");
  greater_is_better_ = mode == "max";
  const std::string threshold_mode = kwargs.get_or<std::string>("threshold_mode", "rel");
  require(threshold_mode == "rel" || threshold_mode == "abs", "threshold_mode", threshold_mode, "be rel or abs");
  relative_ = threshold_mode == "rel";
  best_ = greater_is_better_ ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
}

bool ReduceLrOnPlateau::is_better(double metric) const {
  const double sign = greater_is_better_ ? 1 : -1;
  const double bar = relative_ ? best_ * (1 + sign * threshold_) : best_ + sign * threshold_;
  return greater_is_better_ ? metric > bar : metric < bar;
}

void ReduceLrOnPlateau::step(double metric) {
  if (is_better(metric)) {
    best_ = metric;
    bad_evaluations_ = 0;
  } else {
    ++bad_evaluations_;
  }
  if (cooling_ > 0) {
    --cooling_;
    bad_evaluations_ = 0;
  }
  if (bad_evaluations_ <= patience_) return;
  if (const double lower = std::max(lr_ * factor_, min_lr_); lr_ - lower > eps_) lr_ = lower;
  cooling_ = cooldown_;
  bad_evaluations_ = 0;
}

Json ReduceLrOnPlateau::state() const {
  return Json::object({{"lr", lr_},
                       {"best", std::isfinite(best_) ? Json(best_) : Json()},
                       {"bad_evaluations", bad_evaluations_},
                       {"cooldown", cooling_}});
}

void ReduceLrOnPlateau::load_state(const Json& state) {
  lr_ = state.get<double>("lr");
  best_ = state.get_or<double>("best", best_);
  bad_evaluations_ = state.get<std::int64_t>("bad_evaluations", 0);
  cooling_ = state.get<std::int64_t>("cooldown", 0);
}

}  // namespace sinter::optim
