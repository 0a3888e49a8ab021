#include "optim/adamw.h"

#include <cmath>

#include "core/error.h"
#include "core/runtime/runtime.h"
#include "kernels/adamw.h"

namespace sinter::optim {
namespace {

AdamWOptions checked(const AdamWOptions& options) {
  const auto require = [](bool holds, const char* field, double value, const char* rule) {
    if (!holds) fail(ErrorCode::usage, "AdamW: ", field, " is ", value, ", it must ", rule);
  };
  require(options.beta1 >= 0 && options.beta1 < 1, "beta1", options.beta1, "lie in [0, 1)");
  require(options.beta2 >= 0 && options.beta2 < 1, "beta2", options.beta2, "lie in [0, 1)");
  require(options.eps > 0 && std::isfinite(options.eps), "eps", options.eps, "be finite and positive");
  return options;
}

}  // namespace

AdamW::AdamW(std::vector<ParameterGroup> groups, AdamWOptions options)
    : Optimizer("AdamW", options.lr, {"exp_avg", "exp_avg_sq"}, std::move(groups)), options_(checked(options)) {}

void AdamW::update(double clip_coefficient) {
  std::vector<kernels::AdamWGroup> groups;
  for (const GroupRange& range : group_ranges())
    groups.push_back({range.begin, range.end, range.lr, range.weight_decay});
  const auto t = static_cast<double>(steps_);
  const Device device = flat_.values().device();
  const Tensor clip = Tensor::from<double>({clip_coefficient}).to(device);
  const kernels::AdamW params{
      .dtype = flat_.values().dtype(),
      .groups = groups.data(),
      .group_count = static_cast<int>(groups.size()),
      .beta1 = options_.beta1,
      .beta2 = options_.beta2,
      .eps = options_.eps,
      .bias_correction1 = 1 - std::pow(options_.beta1, t),
      .bias_correction2 = 1 - std::pow(options_.beta2, t),
      .clip = clip.data<double>(),
      .grad = flat_.gradients().data(),
      .param = flat_.values().data(),
      .exp_avg = flat_.state("exp_avg").data(),
      .exp_avg_sq = flat_.state("exp_avg_sq").data(),
  };
  Runtime::instance().launch(device, params, "adamw");
}

}  // namespace sinter::optim
