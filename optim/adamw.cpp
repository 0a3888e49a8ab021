#include "optim/adamw.h"

#include <cmath>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/runtime/runtime.h"
#include "kernels/adamw.h"

namespace sinter::optim {
namespace {

constexpr const char* kMoments[] = {"exp_avg", "exp_avg_sq"};

FlatParameters adopt(const std::vector<ParameterGroup>& groups) {
  std::vector<ParameterList> lists;
  for (const ParameterGroup& group : groups) lists.push_back(group.parameters);
  return FlatParameters::adopt(lists);
}

AdamWOptions checked(const AdamWOptions& options) {
  const auto require = [](bool holds, const char* field, double value, const char* rule) {
    if (!holds) fail(ErrorCode::usage, "AdamW: ", field, " is ", value, ", it must ", rule);
  };
  require(options.lr >= 0 && std::isfinite(options.lr), "lr", options.lr, "be finite and not negative");
  require(options.beta1 >= 0 && options.beta1 < 1, "beta1", options.beta1, "lie in [0, 1)");
  require(options.beta2 >= 0 && options.beta2 < 1, "beta2", options.beta2, "lie in [0, 1)");
  require(options.eps > 0 && std::isfinite(options.eps), "eps", options.eps, "be finite and positive");
  return options;
}

std::vector<ParameterGroup> without_empty(std::vector<ParameterGroup> groups) {
  std::erase_if(groups, [](const ParameterGroup& group) { return group.parameters.empty(); });
  return groups;
}

}  // namespace

AdamW::AdamW(std::vector<ParameterGroup> groups, AdamWOptions options)
    : options_(checked(options)), flat_(adopt(groups = without_empty(std::move(groups)))) {
  for (const ParameterGroup& group : groups) {
    if (!(group.weight_decay >= 0 && std::isfinite(group.weight_decay)))
      fail(ErrorCode::usage, "AdamW: weight_decay is ", group.weight_decay, ", it must be finite and not negative");
    group_factors_.emplace_back(group.weight_decay, group.lr_scale);
  }
}

void AdamW::step(double clip_coefficient) {
  if (!std::isfinite(clip_coefficient))
    fail(ErrorCode::usage, "AdamW::step: the clip coefficient is ", clip_coefficient,
         ", it must be finite; the gradients hold inf or NaN (GradNorm::nonfinite), and the weights are untouched");
  const NoGradGuard guard;
  flat_.settle_gradients();
  ++steps_;
  std::vector<kernels::AdamWGroup> groups;
  for (int g = 0; g < flat_.group_count(); ++g) {
    const auto [begin, end] = flat_.group_range(g);
    const auto& [weight_decay, lr_scale] = group_factors_[static_cast<std::size_t>(g)];
    groups.push_back({begin, end, options_.lr * lr_scale, weight_decay});
  }
  const auto t = static_cast<double>(steps_);
  const kernels::AdamW params{
      .dtype = flat_.values().dtype(),
      .groups = groups.data(),
      .group_count = static_cast<int>(groups.size()),
      .beta1 = options_.beta1,
      .beta2 = options_.beta2,
      .eps = options_.eps,
      .bias_correction1 = 1 - std::pow(options_.beta1, t),
      .bias_correction2 = 1 - std::pow(options_.beta2, t),
      .clip = &clip_coefficient,
      .grad = flat_.gradients().data(),
      .param = flat_.values().data(),
      .exp_avg = flat_.state(kMoments[0]).data(),
      .exp_avg_sq = flat_.state(kMoments[1]).data(),
  };
  Runtime::instance().launch(flat_.values().device(), params, "adamw");
  flat_.mark_written("adamw");
}

std::vector<std::pair<std::string, Tensor>> AdamW::state_tensors() {
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const char* moment : kMoments)
    for (const Segment& segment : flat_.segments())
      tensors.emplace_back(std::string(moment) + "." + segment.name, flat_.view(segment, flat_.state(moment)));
  return tensors;
}

void AdamW::load_state(const std::function<Tensor(const std::string&)>& read, std::int64_t steps) {
  for (auto& [name, target] : state_tensors()) {
    const Tensor source = read(name);
    if (source.shape() != target.shape() || source.dtype() != target.dtype())
      fail(ErrorCode::bad_input, "optimizer state ", name, " is ", kernels::name(source.dtype()), " ", source.shape(),
           ", the parameter is ", kernels::name(target.dtype()), " ", target.shape());
    target.copy_(source);
  }
  steps_ = steps;
}

}  // namespace sinter::optim
