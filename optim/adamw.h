// AdamW over flat buffers.
#pragma once

#include <vector>

#include "optim/optimizer.h"

namespace sinter::optim {

struct AdamWOptions {
  double lr = 5e-5;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
};

/// torch.optim.AdamW (formula in kernels/adamw.h); one kernel a step for all parameters. Its states are exp_avg and
/// exp_avg_sq.
class AdamW final : public Optimizer {
 public:
  /// Error(usage) for an option out of range and for a parameter that does not require grad.
  AdamW(std::vector<ParameterGroup> groups, AdamWOptions options);

 private:
  void update(double clip_coefficient) override;

  AdamWOptions options_;
};

}  // namespace sinter::optim
