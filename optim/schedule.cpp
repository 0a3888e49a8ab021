#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace sinter::optim {
namespace {

/// Half of 1 + cos of `turns` turns: 1 at 0, 0 at one half.
double wave(double turns) { return 0.5 * (1 + std::cos(2 * std::numbers::pi * turns)); }

template <class T>
void require(bool holds, const char* key, const T& value, const char* rule) {
  if (!holds) fail(ErrorCode::usage, "lr_scheduler_kwargs: ", key, " is ", value, ", it must ", rule);
}

/// A setting, or its default where it is absent or null.
double number(const Json& kwargs, const char* key, double otherwise) {
  const double value = kwargs.get_or<double>(key, otherwise);
  require(std::isfinite(value), key, value, "be finite");
  return value;
}

std::int64_t count(const Json& kwargs, const char* key) {
  const double value = number(kwargs, key, -1);
  require(value >= 0 && value < 4294967296.0 && value == std::floor(value), key, value, "be a number of updates");
  return static_cast<std::int64_t>(value);
}

void require_known(const std::string& name, const Json& kwargs, std::string_view settings) {
  for (const auto& [key, value] : kwargs.items())
    if ((" " + std::string(settings) + " ").find(" " + key + " ") == std::string::npos)
      fail(ErrorCode::usage, "lr_scheduler_kwargs: the schedule ", name, " has no setting ", key,
           settings.empty() ? "; it has none" : "; it has ", settings);
}

}  // namespace

double Schedule::warmup(double i) const {
  const double length = std::max(1.0, static_cast<double>(warmup_));
  if (kind_ != Kind::cosine_warmup_with_min_lr) return i / length;
  if (settings_.warmup_lr_rate < 0) return (i + 1) / length;
  return settings_.warmup_lr_rate + (1 - settings_.warmup_lr_rate) * i / std::max(1.0, length - 1);
}

double Schedule::warmup_stable_decay(std::int64_t completed) const {
  const Settings& s = settings_;
  const auto above_floor = [&](double share) { return std::max(0.0, share * (1 - s.floor) + s.floor); };
  if (completed < warmup_) {
    const double progress = static_cast<double>(completed) / static_cast<double>(std::max<std::int64_t>(1, warmup_));
    if (s.warmup_type == Curve::linear) return above_floor(progress);
    return above_floor(s.warmup_type == Curve::cosine ? 1 - wave(0.5 * progress) : 1 - std::sqrt(1 - progress));
  }
  const std::int64_t decayed = completed - warmup_ - s.stable_steps;
  if (decayed < 0) return 1;
  if (decayed >= s.decay_steps) return s.floor;
  const double progress = static_cast<double>(decayed) / static_cast<double>(std::max<std::int64_t>(1, s.decay_steps));
  if (s.decay_type == Curve::linear) return above_floor(1 - progress);
  return above_floor(s.decay_type == Curve::cosine ? wave(s.num_cycles * progress) : 1 - std::sqrt(progress));
}

double Schedule::factor(std::int64_t completed) const {
  if (kind_ == Kind::constant) return 1;
  if (kind_ == Kind::warmup_stable_decay) return warmup_stable_decay(completed);
  const auto i = static_cast<double>(completed);
  if (completed < warmup_) return warmup(i);
  const auto rest = static_cast<double>(std::max<std::int64_t>(1, total_ - warmup_));
  const double progress = static_cast<double>(completed - warmup_) / rest;
  const Settings& s = settings_;
  switch (kind_) {
    case Kind::linear: return std::max(0.0, static_cast<double>(total_ - completed) / rest);
    case Kind::cosine: return wave(s.num_cycles * progress);
    case Kind::cosine_with_restarts: return progress >= 1 ? 0 : wave(0.5 * std::fmod(s.num_cycles * progress, 1.0));
    case Kind::polynomial:
      return completed > total_ ? s.floor : (1 - s.floor) * std::pow(1 - progress, s.power) + s.floor;
    case Kind::inverse_sqrt: return std::sqrt(s.timescale / (i + s.timescale - static_cast<double>(warmup_)));
    case Kind::cosine_with_min_lr: return wave(s.num_cycles * progress) * (1 - s.floor) + s.floor;
    case Kind::cosine_warmup_with_min_lr: return wave(s.num_cycles * (progress + 1 / rest)) * (1 - s.floor) + s.floor;
    default: return 1;
  }
}

Schedule::Curve Schedule::read_curve(const Json& kwargs, const char* key, Curve otherwise) {
  const std::string name = kwargs.get_or<std::string>(key, "");
  if (name.empty()) return otherwise;
  require(name == "linear" || name == "cosine" || name == "1-sqrt", key, name, "be linear, cosine or 1-sqrt");
  return name == "linear" ? Curve::linear : name == "cosine" ? Curve::cosine : Curve::one_minus_sqrt;
}

void Schedule::read_floor(const Json& kwargs, double lr) {
  const auto given = [&](const char* key) { return kwargs.contains(key) && !kwargs.at(key).is_null(); };
  if (given("min_lr") == given("min_lr_rate"))
    fail(ErrorCode::usage, "lr_scheduler_kwargs: exactly one of min_lr and min_lr_rate must be given");
  const double min_lr = number(kwargs, "min_lr", 0);
  if (given("min_lr")) require(lr > 0 && min_lr >= 0 && min_lr <= lr, "min_lr", min_lr, "lie in [0, learning_rate]");
  settings_.floor = given("min_lr") ? min_lr / lr : number(kwargs, "min_lr_rate", 0);
  require(settings_.floor >= 0 && settings_.floor <= 1, "min_lr_rate", settings_.floor, "lie in [0, 1]");
}

void Schedule::read_settings(const std::string& name, const Json& kwargs, double lr) {
  Settings& s = settings_;
  s.num_cycles = number(kwargs, "num_cycles", kind_ == Kind::cosine_with_restarts ? 1 : 0.5);
  require(s.num_cycles >= 0, "num_cycles", s.num_cycles, "not be negative");
  switch (kind_) {
    case Kind::cosine: return require_known(name, kwargs, "num_cycles");
    case Kind::cosine_with_restarts: return require_known(name, kwargs, "num_cycles");
    case Kind::polynomial: {
      require_known(name, kwargs, "lr_end power");
      const double lr_end = number(kwargs, "lr_end", std::min(1e-7, lr));
      require(lr_end >= 0 && lr_end <= lr, "lr_end", lr_end, "lie in [0, learning_rate]");
      s.floor = lr > 0 ? lr_end / lr : 0;
      s.power = number(kwargs, "power", 1);
      return require(s.power >= 0, "power", s.power, "not be negative");
    }
    case Kind::inverse_sqrt:
      require_known(name, kwargs, "timescale");
      s.timescale = number(kwargs, "timescale", warmup_ > 0 ? static_cast<double>(warmup_) : 10000);
      return require(s.timescale > 0, "timescale", s.timescale, "be positive");
    case Kind::cosine_with_min_lr:
      require_known(name, kwargs, "num_cycles min_lr min_lr_rate");
      return read_floor(kwargs, lr);
    case Kind::cosine_warmup_with_min_lr:
      require_known(name, kwargs, "num_cycles min_lr min_lr_rate warmup_lr_rate");
      s.warmup_lr_rate = number(kwargs, "warmup_lr_rate", -1);
      return read_floor(kwargs, lr);
    case Kind::warmup_stable_decay:
      require_known(name, kwargs, "num_decay_steps num_stable_steps warmup_type decay_type min_lr_ratio num_cycles");
      if (!kwargs.contains("num_decay_steps"))
        fail(ErrorCode::usage, "lr_scheduler_kwargs: the schedule ", name, " needs num_decay_steps");
      s.decay_steps = count(kwargs, "num_decay_steps");
      s.stable_steps = kwargs.contains("num_stable_steps")
                           ? count(kwargs, "num_stable_steps")
                           : std::max<std::int64_t>(0, total_ - warmup_ - s.decay_steps);
      s.warmup_type = read_curve(kwargs, "warmup_type", Curve::linear);
      s.decay_type = read_curve(kwargs, "decay_type", Curve::cosine);
      s.floor = number(kwargs, "min_lr_ratio", 0);
      return require(s.floor >= 0 && s.floor <= 1, "min_lr_ratio", s.floor, "lie in [0, 1]");
    default: return require_known(name, kwargs, "");
  }
}

Schedule get_scheduler(const std::string& name, std::int64_t warmup_steps, std::int64_t total_steps, const Json& kwargs,
                       double lr) {
  using Kind = Schedule::Kind;
  constexpr std::pair<std::string_view, Kind> kNames[] = {
      {"linear", Kind::linear},
      {"cosine", Kind::cosine},
      {"cosine_with_restarts", Kind::cosine_with_restarts},
      {"polynomial", Kind::polynomial},
      {"constant", Kind::constant},
      {"constant_with_warmup", Kind::constant_with_warmup},
      {"inverse_sqrt", Kind::inverse_sqrt},
      {"cosine_with_min_lr", Kind::cosine_with_min_lr},
      {"cosine_warmup_with_min_lr", Kind::cosine_warmup_with_min_lr},
      {"warmup_stable_decay", Kind::warmup_stable_decay},
  };
  std::string list;
  for (const auto& [known, kind] : kNames) {
    list += std::string(known) + ", ";
    if (name != known) continue;
    Schedule schedule;
    schedule.kind_ = kind;
    schedule.warmup_ = warmup_steps;
    schedule.total_ = total_steps;
    schedule.read_settings(name, kwargs, lr);
    return schedule;
  }
  fail(ErrorCode::usage, "lr_scheduler_type is \"", name, "\", it must be ", list, "or reduce_lr_on_plateau");
}

}  // namespace sinter::optim
