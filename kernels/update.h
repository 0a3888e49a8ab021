// What an update of the parameters decides, in device memory: gradient clipping, loss scale, learning rate, skipped
// updates, counters. The host takes no part, so that it never waits and a captured update can be replayed:
//
//   AccumulateLoss (each micro-batch), SquaredNorm (kernels/adamw.h), PrepareUpdate, AdamW with its coefficients and
//   with the clip and skip of the state
#pragma once

#include <cmath>

#include "kernels/adamw.h"
#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/on_device.h"

namespace sinter::kernels {

/// How a run stands; one in device memory. The defaults are those of a run that begins without a loss scale.
struct UpdateState {
  double scale = 1;                       ///< factor of the loss
  std::int64_t growth_tracker = 0;        ///< clean updates since the scale changed
  std::int64_t global_step = 0;           ///< updates tried
  std::int64_t scheduler_steps = 0;       ///< updates that the schedule has seen: those not skipped
  std::int64_t adam_t = 0;                ///< updates that AdamW has done
  std::int64_t nonfinite_in_a_row = 0;    ///< skipped without a loss scale since the last one that was not
  double loss = 0;                        ///< sum over the micro-batches since the last update
  double clip = 1;                        ///< factor of the gradient in this update; 0 where it is skipped
  std::int32_t skip = 0;                  ///< not 0: this update writes no parameter
  std::int32_t halted = 0;                ///< not 0: the run has failed, and every later update is skipped
  float loss_gradient = 1;                ///< scale in f32: the gradient with which backward of the loss begins
  std::int32_t reserved = 0;
};

/// What the host reads later of one update.
struct UpdateRecord {
  double loss = 0, norm = 0, lr = 0;
  double scale = 1;                       ///< that the gradients of this update were multiplied by
  std::int32_t skipped = 0, halted = 0;
};

/// What a group's learning rate is multiplied by, and its weight decay.
struct UpdateGroup {
  double lr_scale = 1, weight_decay = 0;
};

/// Rules of a dynamic loss scale; torch.amp.GradScaler's, and a floor.
struct LossScaleRules {
  double growth_factor = 2, backoff_factor = 0.5;
  std::int64_t growth_interval = 2000;
  double min_scale = 1;
};

/// Takes note of one update; `found_inf`: its gradients were not finite. The scale is multiplied by backoff_factor
/// then, and by growth_factor after growth_interval clean updates in a row, unless that is beyond f32. False where it
/// would fall below min_scale; nothing changes then.
SINTER_HOST_DEVICE inline bool update_loss_scale(const LossScaleRules& rules, bool found_inf, double& scale,
                                                 std::int64_t& growth_tracker) {
  if (found_inf) {
    const double lower = scale * rules.backoff_factor;
    if (lower < rules.min_scale) return false;
    scale = lower;
    growth_tracker = 0;
    return true;
  }
  if (++growth_tracker < rules.growth_interval) return true;
  growth_tracker = 0;
  const double higher = scale * rules.growth_factor;
  if (std::isfinite(static_cast<float>(higher))) scale = higher;
  return true;
}

/// The L2 norm of gradients whose loss was multiplied by `scale`, and the factor that clips and unscales them:
/// min(1, max_norm / (norm + 1e-6)) / scale, NaN when the norm is. Source: torch.nn.utils.clip_grad_norm_.
struct ClippedNorm {
  double norm = 0, coefficient = 1;
};
SINTER_HOST_DEVICE inline ClippedNorm clipped_norm(double squared_norm, double max_norm, double scale) {
  const double norm = std::sqrt(squared_norm) / scale;
  const double wanted = max_norm / (norm + 1e-6);
  return {norm, (wanted < 1 || std::isnan(wanted) ? wanted : 1) / scale};
}

/// state.loss += loss, in f64. One element of any floating dtype.
struct AccumulateLoss {
  static constexpr KernelId id = KernelId::accumulate_loss;
  Dtype dtype = Dtype::f32;
  const void* loss = nullptr;
  UpdateState* state = nullptr;
};

/// Decides one update. All pointers are device memory.
///
///   lr = lr[min(scheduler_steps, lr_count - 1)]
///   norm and clip = clipped_norm(*squared_norm, max_norm, scale); without a norm 0 and 1
///   finite: state.loss and clip are, and *nonfinite is 0
///   coefficients[g] = coefficients(lr * groups[g].lr_scale, groups[g].weight_decay, beta1, beta2, adam_t + 1)
///   history[(adam_t + 1) % history_size] = coefficients, for CatchUpRows (catch_up_rows.h)
///   with a loss scale: update_loss_scale; halted where that would fall below its floor
///   without: nonfinite_in_a_row counts what is not finite; halted where it reaches max_nonfinite_in_a_row
///   skip, and a clip of 0, unless finite and not halted
///   scheduler_steps and adam_t count the updates that are not skipped, global_step counts all
///   records[global_step % record_count] is written, with the global_step before this update
///   state.loss = 0
///
/// A run that is halted stays so: scale, growth_tracker and nonfinite_in_a_row keep their values, global_step and the
/// records go on. nonfinite_in_a_row becomes 0 with a finite update. Negative counters in the state are refused (CPU)
/// or stop the kernel (CUDA). All in f64; the power in the coefficients may differ between devices in the last bits.
struct PrepareUpdate {
  static constexpr KernelId id = KernelId::prepare_update;
  UpdateState* state = nullptr;
  UpdateRecord* records = nullptr;             ///< [record_count]
  std::int64_t record_count = 1;
  const double* squared_norm = nullptr;        ///< one; null: no clipping and no loss scale
  const std::int32_t* nonfinite = nullptr;     ///< one; null where squared_norm is
  double max_norm = 0;                         ///< above 0, may be infinite; without squared_norm not read
  const double* lr = nullptr;                  ///< [lr_count], learning rate by scheduler_steps
  std::int64_t lr_count = 1;
  const UpdateGroup* groups = nullptr;         ///< [group_count]
  int group_count = 0;
  AdamWCoefficients* coefficients = nullptr;   ///< [group_count], written
  AdamWCoefficients* history = nullptr;        ///< [history_size, group_count]; null: not kept
  std::int64_t history_size = 0;
  double beta1 = 0.9, beta2 = 0.999;
  bool scales_loss = false;                    ///< the scale follows loss_scale; otherwise state.scale must be 1
  LossScaleRules loss_scale;
  std::int64_t max_nonfinite_in_a_row = 10;    ///< not read where scales_loss
};

constexpr Status check(const AccumulateLoss&) { return {}; }
constexpr Status check(const PrepareUpdate& p) {
  if (p.record_count < 1) return invalid("there must be room for a record");
  if (p.lr_count < 1) return invalid("there must be a learning rate");
  if (p.group_count < 0) return invalid("the number of groups must not be negative");
  if (p.history != nullptr && p.history_size < 1) return invalid("the history must hold at least one update");
  if (!(p.beta1 >= 0 && p.beta1 < 1 && p.beta2 >= 0 && p.beta2 < 1)) return invalid("betas must lie in [0, 1)");
  if ((p.squared_norm == nullptr) != (p.nonfinite == nullptr))
    return invalid("the squared norm and its flag are given together or not at all");
  if (p.squared_norm != nullptr && !(p.max_norm > 0)) return invalid("max_norm must be positive");
  if (!p.scales_loss)
    return p.max_nonfinite_in_a_row < 1 ? invalid("max_nonfinite_in_a_row must be positive") : Status{};
  if (p.squared_norm == nullptr) return invalid("a loss scale needs the norm of the gradients");
  const LossScaleRules& rules = p.loss_scale;
  if (!(rules.growth_factor > 1 && rules.backoff_factor > 0 && rules.backoff_factor < 1 && rules.min_scale > 0) ||
      rules.growth_interval < 1)
    return invalid("a loss scale must grow, shrink, and stay positive");
  return {};
}

constexpr Cost cost(const AccumulateLoss& p) { return {static_cast<double>(size_of(p.dtype)) + 8, 8, 1}; }
/// Some ten operations for the state and five for a group, the powers counted as one.
constexpr Cost cost(const PrepareUpdate& p) {
  const double groups = p.group_count;
  return {sizeof(UpdateState) + 8 + (p.squared_norm != nullptr ? 12 : 0) + groups * sizeof(UpdateGroup),
          sizeof(UpdateState) + sizeof(UpdateRecord) + groups * sizeof(AdamWCoefficients), 10 + 7 * groups};
}

/// Writes the coefficients of group g for update number t.
SINTER_HOST_DEVICE inline void prepare_group(const PrepareUpdate& p, double lr, int g, std::int64_t t) {
  const UpdateGroup group = p.groups[g];
  const AdamWCoefficients now = coefficients(lr * group.lr_scale, group.weight_decay, p.beta1, p.beta2, t);
  p.coefficients[g] = now;
  if (p.history != nullptr) p.history[t % p.history_size * p.group_count + g] = now;
}

/// The learning rate of this update.
SINTER_HOST_DEVICE inline double learning_rate(const PrepareUpdate& p) {
  const std::int64_t step = p.state->scheduler_steps, last = p.lr_count - 1;
  return p.lr[step < last ? step : last];
}

/// All that PrepareUpdate does to state and records, shared by CPU and CUDA. The work of one thread.
SINTER_HOST_DEVICE inline void advance(const PrepareUpdate& p) {
  UpdateState& state = *p.state;
  UpdateRecord record;
  record.loss = state.loss;
  record.lr = learning_rate(p);
  record.scale = state.scale;
  bool finite = std::isfinite(state.loss);
  double clip = 1;
  if (p.squared_norm != nullptr) {
    const ClippedNorm clipped = clipped_norm(*p.squared_norm, p.max_norm, state.scale);
    record.norm = clipped.norm;
    clip = clipped.coefficient;
    finite = finite && *p.nonfinite == 0 && std::isfinite(clip);
  }
  if (state.halted == 0) {
    if (finite) state.nonfinite_in_a_row = 0;
    if (p.scales_loss) {
      const bool has_room = update_loss_scale(p.loss_scale, !finite, state.scale, state.growth_tracker);
      state.loss_gradient = static_cast<float>(state.scale);
      state.halted = has_room ? 0 : 1;
    } else if (!finite) {
      ++state.nonfinite_in_a_row;
      state.halted = state.nonfinite_in_a_row >= p.max_nonfinite_in_a_row ? 1 : 0;
    }
  }
  const bool goes = finite && state.halted == 0;
  state.clip = goes ? clip : 0;   // not NaN, whose bits differ between devices
  state.skip = goes ? 0 : 1;
  record.skipped = state.skip;
  record.halted = state.halted;
  p.records[state.global_step % p.record_count] = record;
  ++state.global_step;
  state.scheduler_steps += goes ? 1 : 0;
  state.adam_t += goes ? 1 : 0;
  state.loss = 0;
}

}  // namespace sinter::kernels
