// AdamW over flat buffers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/flat_parameters.h"
#include "core/parameter.h"

namespace sinter::optim {

struct AdamWOptions {
  double lr = 5e-5;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
};

/// Parameters that share their weight decay; lr_scale multiplies the learning rate (layer-wise decay and the like).
struct ParameterGroup {
  ParameterList parameters;
  double weight_decay = 0;
  double lr_scale = 1;
};

/// torch.optim.AdamW (formula in kernels/adamw.h). Moves the parameters into FlatParameters at construction; one kernel
/// a step for all of them. Results do not depend on the number of threads.
class AdamW {
 public:
  /// Empty groups are left out. Error(usage) for an option out of range and for a parameter that does not require grad.
  AdamW(std::vector<ParameterGroup> groups, AdamWOptions options);

  void zero_grad() { flat_.zero_grad(); }
  /// One update with the gradients times `clip_coefficient` (see optim/clip.h); a coefficient that is not finite is an
  /// Error(usage). Parameters that got no gradient count as having a gradient of zero.
  void step(double clip_coefficient = 1);

  void set_lr(double lr) { options_.lr = lr; }
  double lr() const { return options_.lr; }
  /// Updates done.
  std::int64_t steps() const { return steps_; }
  FlatParameters& parameters() { return flat_; }

  /// Moments by name, "exp_avg.<parameter>" and "exp_avg_sq.<parameter>", as views in the parameters' shapes.
  std::vector<std::pair<std::string, Tensor>> state_tensors();
  /// Reads every moment through `read` and takes `steps` as the number of updates done. Error(bad_input) when a shape
  /// or dtype differs.
  void load_state(const std::function<Tensor(const std::string& name)>& read, std::int64_t steps);

 private:
  AdamWOptions options_;
  std::vector<std::pair<double, double>> group_factors_;   // weight decay, lr scale
  FlatParameters flat_;
  std::int64_t steps_ = 0;
};

}  // namespace sinter::optim
