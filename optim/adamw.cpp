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

std::vector<kernels::AdamWGroup> AdamW::kernel_groups() const {
  std::vector<kernels::AdamWGroup> groups;
  for (const GroupRange& range : group_ranges()) groups.push_back({range.begin, range.end});
  return groups;
}

kernels::AdamW AdamW::kernel(const std::vector<kernels::AdamWGroup>& groups) {
  return {
      .dtype = flat_.values().dtype(),
      .groups = groups.data(),
      .group_count = static_cast<int>(groups.size()),
      .beta1 = options_.beta1,
      .beta2 = options_.beta2,
      .eps = options_.eps,
      .grad = flat_.gradients().data(),
      .param = flat_.values().data(),
      .exp_avg = flat_.state("exp_avg").data(),
      .exp_avg_sq = flat_.state("exp_avg_sq").data(),
  };
}

void AdamW::update(double clip_coefficient) {
  std::vector<double> changing;   // the coefficients of each group and the clip coefficient: one upload
  for (const GroupRange& range : group_ranges()) {
    const kernels::AdamWCoefficients of_group =
        kernels::coefficients(range.lr, range.weight_decay, options_.beta1, options_.beta2, steps_);
    changing.insert(changing.end(), {of_group.decay, of_group.step_size, of_group.inverse_root});
  }
  changing.push_back(clip_coefficient);
  const Device device = flat_.values().device();
  const Tensor host = Tensor::from(changing, {static_cast<std::int64_t>(changing.size())});
  const Tensor there = upload({&host, 1}, device).front();
  const std::vector<kernels::AdamWGroup> groups = kernel_groups();
  kernels::AdamW params = kernel(groups);
  params.coefficients = reinterpret_cast<const kernels::AdamWCoefficients*>(there.data<double>());
  params.clip = there.data<double>() + changing.size() - 1;
  Runtime::instance().launch(device, params, "adamw");
}

}  // namespace sinter::optim
