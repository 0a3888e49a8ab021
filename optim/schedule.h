// Learning-rate schedules.
#pragma once

#include <cstdint>
#include <string>

namespace sinter::optim {

/// Factor of the peak learning rate as a function of the updates done, after HF's get_scheduler:
///   linear                 i/W for i < W, then (T - i) / (T - W), at least 0
///   cosine                 i/W for i < W, then (1 + cos(pi * (i - W) / (T - W))) / 2 at half a period
///   constant               1
///   constant_with_warmup   i/W for i < W, then 1
/// W warm-up updates, T updates in all. With W > 0 the first update has factor 0.
class Schedule {
 public:
  enum class Kind { linear, cosine, constant, constant_with_warmup };
  Schedule(Kind kind, std::int64_t warmup_steps, std::int64_t total_steps)
      : kind_(kind), warmup_(warmup_steps), total_(total_steps) {}
  /// `completed`: scheduler steps done, 0 for the first update.
  double factor(std::int64_t completed) const;

 private:
  Kind kind_;
  std::int64_t warmup_, total_;
};

/// The schedule of HF's `lr_scheduler_type`; a usage error that lists the names for another one.
Schedule get_scheduler(const std::string& name, std::int64_t warmup_steps, std::int64_t total_steps);

}  // namespace sinter::optim
