// AdamW over flat buffers.
#pragma once

#include <vector>

#include "optim/optimizer.h"

namespace sinter::kernels {
struct AdamW;
struct AdamWGroup;
}  // namespace sinter::kernels

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
  friend class QueuedUpdate;   // the same kernel, with numbers that the device computes
  void update(double clip_coefficient) override;
  std::vector<kernels::AdamWGroup> kernel_groups() const;
  /// The kernel over `groups`, which must stay where they are; without coefficients and clip.
  kernels::AdamW kernel(const std::vector<kernels::AdamWGroup>& groups);

  AdamWOptions options_;
};

}  // namespace sinter::optim
