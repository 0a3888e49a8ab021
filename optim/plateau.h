// A learning rate that falls when a metric stops improving.
#pragma once

#include <cstdint>

#include "core/io/json.h"

namespace sinter::optim {

/// torch's ReduceLROnPlateau: after more than `patience` evaluations in a row without an improvement the rate is
/// multiplied by `factor`, at least `min_lr`, and `cooldown` evaluations do not count. An improvement exceeds the best
/// metric by `threshold`, of the best metric ("rel") or as it is ("abs").
class ReduceLrOnPlateau {
 public:
  /// `kwargs`: mode (min or max), factor 0.1, patience 10, threshold 1e-4, threshold_mode rel, cooldown 0, min_lr 0,
  /// eps 1e-8 (a smaller change is not made). Where `mode` is not given it follows greater_is_better; HF's is min even
  /// for a metric that grows. Error(usage) for another setting and for a value that breaks a rule.
  ReduceLrOnPlateau(double lr, const Json& kwargs, bool greater_is_better);

  /// Takes the metric of one evaluation.
  void step(double metric);
  double lr() const { return lr_; }

  Json state() const;
  /// Error(bad_input) when `state` is not one that state() gave.
  void load_state(const Json& state);

 private:
  bool is_better(double metric) const;

  double lr_;
  bool greater_is_better_, relative_;
  double factor_, threshold_, min_lr_, eps_;
  std::int64_t patience_, cooldown_;
  double best_;  // the infinity that every metric beats before the first
  std::int64_t bad_evaluations_ = 0, cooling_ = 0;
};

}  // namespace sinter::optim
