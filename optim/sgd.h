// Stochastic gradient descent.
#pragma once

#include <string>
#include <vector>

#include "optim/optimizer.h"

namespace sinter::optim {

struct SgdOptions {
  double lr = 1e-3;
  double momentum = 0;
  bool nesterov = false;   ///< needs a momentum
};

/// torch.optim.SGD without dampening: g += weight_decay * p; with momentum m, b = m * b + g, and g becomes b, or
/// g + m * b with nesterov; p -= lr * g. Its state is momentum_buffer (b), with momentum.
class Sgd final : public Optimizer {
 public:
  /// Error(usage) for an option out of range and for a parameter that does not require grad.
  Sgd(std::vector<ParameterGroup> groups, SgdOptions options);

 private:
  void update(double clip_coefficient) override;

  SgdOptions options_;
};

/// "momentum=0.9,nesterov=true" over `base`, as HF's optim_args; Error(usage) for another key or value.
SgdOptions parse_sgd_options(const std::string& text, SgdOptions base = {});

}  // namespace sinter::optim
