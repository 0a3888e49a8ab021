// Written out once more, and not by the functions of the contract.
#include "kernels/update.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/families.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

Status check_dtype(const AccumulateLoss& p) {
  const Status floating = check_floating(p.dtype);
  return floating.ok() ? check(p) : floating;
}

Status run_accumulate_loss(const AccumulateLoss& p, Stream) {
  p.state->loss = p.state->loss + load(p.dtype, p.loss, 0);
  return {};
}

void follow_loss_scale(const LossScaleRules& rules, bool finite, UpdateState& state) {
  const double lower = state.scale * rules.backoff_factor, higher = state.scale * rules.growth_factor;
  const bool due = state.growth_tracker + 1 == rules.growth_interval;
  if (!finite && lower < rules.min_scale) {
    state.halted = 1;
  } else if (!finite) {
    state.scale = lower;
    state.growth_tracker = 0;
  } else {
    state.growth_tracker = due ? 0 : state.growth_tracker + 1;
    // The largest number that is rounded to one of f32.
    if (due && higher < 0x1.ffffffp127) state.scale = higher;
  }
  state.loss_gradient = static_cast<float>(state.scale);
}

Status run_prepare_update(const PrepareUpdate& p, Stream) {
  UpdateState& state = *p.state;
  if (std::min({state.scheduler_steps, state.global_step, state.adam_t}) < 0)
    return invalid("a counter of the update's state is negative");
  const bool has_norm = p.squared_norm != nullptr;
  const double lr = p.lr[std::min(state.scheduler_steps, p.lr_count - 1)];
  const double norm = has_norm ? std::sqrt(*p.squared_norm) / state.scale : 0;
  const double ratio = has_norm ? p.max_norm / (norm + 1e-6) : 1;
  const bool finite = std::isfinite(state.loss) && !std::isnan(ratio) && !(has_norm && *p.nonfinite != 0);
  const double t = static_cast<double>(state.adam_t + 1);
  for (int g = 0; g < p.group_count; ++g) {
    const double rate = lr * p.groups[g].lr_scale;
    p.coefficients[g] = {1 - rate * p.groups[g].weight_decay, rate / (1 - std::pow(p.beta1, t)),
                         1 / std::sqrt(1 - std::pow(p.beta2, t))};
    if (p.history != nullptr)
      p.history[(state.adam_t + 1) % p.history_size * p.group_count + g] = p.coefficients[g];
  }
  const double scale = state.scale, clip = std::min(1.0, ratio) / (has_norm ? scale : 1);
  if (state.halted == 0) {
    if (p.scales_loss) follow_loss_scale(p.loss_scale, finite, state);
    if (finite) state.nonfinite_in_a_row = 0;
    if (!finite && !p.scales_loss) {
      state.nonfinite_in_a_row += 1;
      state.halted = state.nonfinite_in_a_row < p.max_nonfinite_in_a_row ? 0 : 1;
    }
  }
  state.skip = !finite || state.halted != 0 ? 1 : 0;
  state.clip = state.skip != 0 ? 0 : clip;
  p.records[state.global_step % p.record_count] = {state.loss, norm, lr, scale, state.skip, state.halted};
  state.global_step += 1;
  if (state.skip == 0) {
    state.scheduler_steps += 1;
    state.adam_t += 1;
  }
  state.loss = 0;
  return {};
}

constexpr Variant loss_variants[] = {
    {"naive", "one addition", "the oracle of the tests", erased_run<AccumulateLoss, run_accumulate_loss>}};
constexpr Variant prepare_variants[] = {
    {"naive", "the contract line by line", "the oracle of the tests", erased_run<PrepareUpdate, run_prepare_update>}};
constexpr KernelEntry entries[] = {entry<AccumulateLoss, check_dtype>(loss_variants),
                                   entry<PrepareUpdate, check>(prepare_variants)};

}  // namespace

extern const Family update_family;
const Family update_family = family(entries);

}  // namespace sinter::kernels::ref
