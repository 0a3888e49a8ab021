#include "optim/optimizer.h"

#include <cmath>

#include "core/autograd/mode.h"
#include "core/error.h"

namespace sinter::optim {
namespace {

FlatParameters adopt(const std::vector<ParameterGroup>& groups) {
  std::vector<ParameterList> lists;
  for (const ParameterGroup& group : groups) lists.push_back(group.parameters);
  return FlatParameters::adopt(lists);
}

std::vector<ParameterGroup> without_empty(std::vector<ParameterGroup> groups) {
  std::erase_if(groups, [](const ParameterGroup& group) { return group.parameters.empty(); });
  return groups;
}

}  // namespace

Optimizer::Optimizer(const char* name, double lr, std::vector<const char*> states, std::vector<ParameterGroup> groups)
    : name_(name), lr_(lr), states_(std::move(states)), flat_(adopt(groups = without_empty(std::move(groups)))) {
  const auto require = [&](const char* field, double value) {
    if (!(value >= 0 && std::isfinite(value)))
      fail(ErrorCode::usage, name, ": ", field, " is ", value, ", it must be finite and not negative");
  };
  require("lr", lr);
  for (const ParameterGroup& group : groups) {
    require("weight_decay", group.weight_decay);
    group_factors_.emplace_back(group.weight_decay, group.lr_scale);
  }
}

std::vector<Optimizer::GroupRange> Optimizer::group_ranges() const {
  std::vector<GroupRange> ranges;
  for (int g = 0; g < flat_.group_count(); ++g) {
    const auto [begin, end] = flat_.group_range(g);
    const auto& [weight_decay, lr_scale] = group_factors_[static_cast<std::size_t>(g)];
    ranges.push_back({begin, end, lr_ * lr_scale, weight_decay});
  }
  return ranges;
}

void Optimizer::check_drained(const char* what) const {
  if (undrained_ > 0)
    fail(ErrorCode::usage, what, ": ", undrained_, undrained_ == 1 ? " update" : " updates",
         " of a QueuedUpdate ", undrained_ == 1 ? "was" : "were", " not drained; call its drain() before");
}

void Optimizer::step(double clip_coefficient) {
  if (!std::isfinite(clip_coefficient))
    fail(ErrorCode::usage, name_, "::step: the clip coefficient is ", clip_coefficient,
         ", it must be finite; the gradients hold inf or NaN (GradNorm::nonfinite), and the weights are untouched");
  check_drained((std::string(name_) + "::step").c_str());
  if (flat_.has_low_gradients() && !knows_low_side())
    fail(ErrorCode::unsupported, name_, "::step: gradients are kept in 16 bits, which only AdamW reads; call "
         "keep_low_copy without low_gradients");
  const NoGradGuard guard;
  flat_.settle_gradients();
  ++steps_;
  try {
    update(clip_coefficient);
  } catch (...) {
    --steps_;
    throw;
  }
  flat_.mark_written(name_, knows_low_side());
}

std::vector<std::pair<std::string, Tensor>> Optimizer::state_tensors() {
  flush();
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const char* state : states_)
    for (const Segment& segment : flat_.segments())
      tensors.emplace_back(std::string(state) + "." + segment.name, flat_.view(segment, flat_.state(state)));
  return tensors;
}

void Optimizer::load_state(const std::function<Tensor(const std::string&)>& read, std::int64_t steps) {
  check_drained((std::string(name_) + "::load_state").c_str());
  for (auto& [name, target] : state_tensors()) {
    const Tensor source = read(name);
    if (source.shape() != target.shape() || source.dtype() != target.dtype())
      fail(ErrorCode::bad_input, "optimizer state ", name, " is ", kernels::name(source.dtype()), " ", source.shape(),
           ", the parameter is ", kernels::name(target.dtype()), " ", target.shape());
    target.copy_(source);
  }
  steps_ = steps;
  loaded();
}

}  // namespace sinter::optim
