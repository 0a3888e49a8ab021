// Learning-rate schedules, after HF's get_scheduler.
#pragma once

#include <cstdint>
#include <string>

#include "core/io/json.h"

namespace sinter::optim {

/// Factor of the peak learning rate as a function of the updates done. W warm-up updates, T updates in all, i updates
/// done, p = (i - W) / (T - W). Except where noted the factor is i / W while i < W, so that with W > 0 the first update
/// has factor 0; afterwards, with the `lr_scheduler_kwargs` and their defaults in brackets:
///
///   linear                     1 - p, at least 0
///   cosine                     (1 + cos(2 pi num_cycles p)) / 2                              [num_cycles 0.5]
///   cosine_with_restarts       (1 + cos(pi (num_cycles p mod 1))) / 2, and 0 from T on       [num_cycles 1]
///   polynomial                 (lr_end + (lr - lr_end) (1 - p)^power) / lr, lr_end / lr behind T
///                              [lr_end 1e-7, power 1]
///   constant                   1, without warm-up
///   constant_with_warmup       1
///   inverse_sqrt               sqrt(timescale / (i + timescale - W))         [timescale W, or 10000 if W is 0]
///   cosine_with_min_lr         cosine between 1 and min_lr_rate
///                              [num_cycles 0.5, and one of min_lr, min_lr_rate]
///   cosine_warmup_with_min_lr  the same with p = (i - W + 1) / (T - W); the warm-up is (i + 1) / W, or rises from
///                              warmup_lr_rate to 1 at i = W - 1
///   warmup_stable_decay        1 for num_stable_steps, then from 1 to min_lr_ratio in num_decay_steps, then that;
///                              warmup_type and decay_type are linear, cosine or 1-sqrt
///                              [num_decay_steps must be given, num_stable_steps T - W - num_decay_steps,
///                              warmup_type linear, decay_type cosine, min_lr_ratio 0, num_cycles 0.5]
///
/// Behind T the cosines rise again, as HF's do.
class Schedule {
 public:
  /// `completed`: scheduler steps done, 0 for the first update.
  double factor(std::int64_t completed) const;
  double operator()(std::int64_t completed) const { return factor(completed); }

 private:
  friend Schedule get_scheduler(const std::string&, std::int64_t, std::int64_t, const Json&, double);
  enum class Kind {
    linear, cosine, cosine_with_restarts, polynomial, constant, constant_with_warmup, inverse_sqrt, cosine_with_min_lr,
    cosine_warmup_with_min_lr, warmup_stable_decay
  };
  enum class Curve { linear, cosine, one_minus_sqrt };
  struct Settings {
    double num_cycles = 0.5;
    double floor = 0;             // lr_end, min_lr or min_lr_rate, as a share of the peak
    double power = 1;
    double timescale = 0;
    double warmup_lr_rate = -1;   // below 0: not given
    std::int64_t stable_steps = 0, decay_steps = 0;
    Curve warmup_type = Curve::linear, decay_type = Curve::cosine;
  };

  void read_settings(const std::string& name, const Json& kwargs, double lr);
  void read_floor(const Json& kwargs, double lr);
  static Curve read_curve(const Json& kwargs, const char* key, Curve otherwise);
  double warmup(double i) const;
  double warmup_stable_decay(std::int64_t completed) const;

  Kind kind_ = Kind::linear;
  std::int64_t warmup_ = 0, total_ = 0;
  Settings settings_;
};

/// The schedule of HF's `lr_scheduler_type` with its `lr_scheduler_kwargs` (an object); `lr` is the peak, for the
/// settings that are learning rates. Error(usage) that lists the names for another one, and that names a setting which
/// the schedule does not have, lacks, or whose value breaks a rule. reduce_lr_on_plateau is no function of the step:
/// optim/plateau.h.
Schedule get_scheduler(const std::string& name, std::int64_t warmup_steps, std::int64_t total_steps,
                       const Json& kwargs = Json::object(), double lr = 1);

}  // namespace sinter::optim
