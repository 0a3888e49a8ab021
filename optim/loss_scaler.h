// The factor by which an f16 loss is multiplied, so that small gradients do not vanish.
#pragma once

#include <cstdint>

#include "core/io/json.h"

namespace sinter::kernels {
struct LossScaleRules;
}

namespace sinter::optim {

/// torch.amp.GradScaler's defaults.
struct LossScalerOptions {
  double init_scale = 65536;
  double growth_factor = 2;
  double backoff_factor = 0.5;
  std::int64_t growth_interval = 2000;   ///< clean updates in a row before the scale grows
  double min_scale = 1;                  ///< torch has none: its scale falls to 0 and every later update is lost
};

/// What kernels take of the options (kernels/update.h). Error(usage) as LossScaler.
kernels::LossScaleRules loss_scale_rules(const LossScalerOptions& options);

/// A dynamic loss scale kept by the host: an update whose gradients hold inf or NaN is skipped and the scale multiplied
/// by backoff_factor; after growth_interval clean updates in a row it is multiplied by growth_factor, unless that is
/// beyond f32. Source: Micikevicius et al., "Mixed precision training", ICLR 2018; the rules are torch's.
class LossScaler {
 public:
  /// Error(usage) for factors that do not grow or shrink, an interval below 1, scales that are not positive and finite.
  explicit LossScaler(LossScalerOptions options = {});

  double scale() const { return scale_; }
  std::int64_t growth_tracker() const { return growth_tracker_; }
  const LossScalerOptions& options() const { return options_; }
  /// Takes note of one update; `found_inf`: its gradients were not finite, and it is skipped. Error(diverged) when the
  /// scale would fall below min_scale.
  void update(bool found_inf);

  /// {"scale": ..., "growth_tracker": ...}, torch's names.
  Json state() const;
  /// Error(bad_input) when `state` is not one that state() gave.
  void load_state(const Json& state);

 private:
  LossScalerOptions options_;
  double scale_;
  std::int64_t growth_tracker_ = 0;   // clean updates since the last change
};

}  // namespace sinter::optim
