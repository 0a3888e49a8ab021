#include "optim/adamw.h"

#include <cmath>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/log.h"
#include "core/ops/gather.h"
#include "core/runtime/runtime.h"
#include "kernels/catch_up_rows.h"

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

AdamW::~AdamW() {
  if (!deferred_) return;
  deferred_->rows->make_current = nullptr;
  try {
    flush();
  } catch (const std::exception& error) {
    log_info(std::string("AdamW: the last updates of ") + deferred_->segment->name + " are lost: " + error.what());
  }
}

// --- Rows that are updated late ---

namespace {

/// Updates whose coefficients are kept. A row misses at most so many; then all are brought up to date, which costs one
/// pass over the table.
constexpr std::int64_t kHistory = 1024;
constexpr std::int64_t kCoefficients = sizeof(kernels::AdamWCoefficients) / sizeof(double);

const kernels::AdamWCoefficients* coefficients_in(const Tensor& numbers, std::int64_t first = 0) {
  return reinterpret_cast<const kernels::AdamWCoefficients*>(numbers.data<double>()) + first;
}

}  // namespace

void AdamW::defer_rows(const std::string& name) {
  if (is_sharded())
    fail(ErrorCode::usage, "AdamW::defer_rows: ranks share the states out (shard_states), and rows of ", name,
         " cannot be updated late");
  RowTracker& rows = flat_.track_rows(name);
  if (deferred_) return;
  const Segment* const segment = flat_.find(name);
  const Device device = flat_.values().device();
  deferred_ = Deferred{.rows = &rows,
                       .segment = segment,
                       .current = Tensor::zeros({segment->shape[0]}, {Dtype::i64, device}),
                       .step = Tensor::zeros({1}, {Dtype::i64, device}),
                       .history = Tensor::zeros({kHistory, flat_.group_count(), kCoefficients}, {Dtype::f64, device})};
  flat_.state("exp_avg");
  flat_.state("exp_avg_sq");
  loaded();
  rows.make_current = [this](const Tensor* ids) { ids == nullptr ? flush() : catch_up(ids); };
}

void AdamW::prepare_rows(const Tensor& ids) {
  if (!deferred_) fail(ErrorCode::usage, "AdamW::prepare_rows: no rows are updated late; call defer_rows before");
  const Tensor there = checked_indices("AdamW::prepare_rows", "id", ids, deferred_->segment->shape[0],
                                       flat_.values().device());
  catch_up(&there);
}

void AdamW::flush() {
  if (!deferred_ || deferred_->flushed == deferred_->last) return;
  catch_up(nullptr);
  deferred_->flushed = deferred_->last;
}

void AdamW::loaded() {
  if (!deferred_) return;
  const NoGradGuard guard;
  deferred_->current.fill_(static_cast<double>(steps_));
  deferred_->step.fill_(static_cast<double>(steps_));
  deferred_->flushed = deferred_->last = steps_;
}

void AdamW::catch_up(const Tensor* ids) {
  const Deferred& d = *deferred_;
  const bool nothing_is_late = d.flushed == d.last && !d.queued;   // a queued step may be recorded for later replays
  if (nothing_is_late || (ids != nullptr && ids->numel() == 0)) return;
  const kernels::CatchUpRows params{
      .dtype = flat_.values().dtype(),
      .rows = d.segment->shape[0],
      .cols = d.segment->shape[1],
      .n = ids == nullptr ? 0 : ids->numel(),
      .ids = ids == nullptr ? nullptr : ids->data<std::int64_t>(),
      .beta1 = options_.beta1,
      .beta2 = options_.beta2,
      .eps = options_.eps,
      .history = coefficients_in(d.history, d.segment->group),
      .history_size = kHistory,
      .history_stride = flat_.group_count(),
      .step = d.step.data<std::int64_t>(),
      .current = d.current.data<std::int64_t>(),
      .param = d.segment->tensor.data(),
      .exp_avg = flat_.view(*d.segment, flat_.state("exp_avg")).data(),
      .exp_avg_sq = flat_.view(*d.segment, flat_.state("exp_avg_sq")).data(),
  };
  Runtime::instance().launch(d.step.device(), params, "adamw");
}

/// CatchUpRows asks for it; only a learning rate that is negative or overflows breaks it.
bool AdamW::can_defer(const std::vector<kernels::AdamWCoefficients>& now) const {
  const kernels::AdamWCoefficients& k = now[static_cast<std::size_t>(deferred_->segment->group)];
  const bool narrow = deferred_->segment->tensor.dtype() == Dtype::f32;
  const auto finite = [&](double x) { return std::isfinite(narrow ? static_cast<float>(x) : x); };
  return k.step_size >= 0 && finite(k.step_size) && finite(k.decay);
}

/// For update number steps_, whose coefficients `there` begins with.
kernels::DeferredRows AdamW::deferred_rows(const Tensor& there) {
  Deferred& d = *deferred_;
  const std::int64_t groups = flat_.group_count();
  d.history.narrow(0, steps_ % kHistory, 1).copy_(there.narrow(0, 0, groups * kCoefficients)
                                                      .reshape({1, groups, kCoefficients}));
  d.step.fill_(static_cast<double>(steps_));
  return {d.rows->touched(), d.current.data<std::int64_t>(), d.step.data<std::int64_t>()};
}

void AdamW::queue_deferred(const Tensor& step) {
  deferred_->step = step;
  deferred_->queued = true;
}

void AdamW::flush_when_due() {
  if (deferred_ && deferred_->last - deferred_->flushed >= kHistory) flush();
}

// --- The update ---

std::vector<kernels::AdamWGroup> AdamW::kernel_groups() const {
  std::vector<kernels::AdamWGroup> groups;
  for (const GroupRange& range : group_ranges()) groups.push_back({range.begin, range.end});
  return groups;
}

kernels::AdamW AdamW::kernel(const std::vector<kernels::AdamWGroup>& groups) {
  // A sharded one leaves the copies of all values to their next reader.
  const FlatParameters::LowSide low = is_sharded() ? FlatParameters::LowSide{} : flat_.low_side();
  return {
      .dtype = flat_.values().dtype(),
      .groups = groups.data(),
      .group_count = static_cast<int>(groups.size()),
      .beta1 = options_.beta1,
      .beta2 = options_.beta2,
      .eps = options_.eps,
      .grad = own(flat_.gradients()).data(),
      .param = own(flat_.values()).data(),
      .exp_avg = flat_.state("exp_avg").data(),
      .exp_avg_sq = flat_.state("exp_avg_sq").data(),
      .low = low.values,
      .low_grad = low.gradients,
      .low_dtype = low.dtype,
      .low_ranges = low.ranges,
  };
}

void AdamW::update(double clip_coefficient) {
  if (group_ranges().empty()) return;   // a rank without elements of its own
  std::vector<kernels::AdamWCoefficients> now;
  for (const GroupRange& range : group_ranges())
    now.push_back(kernels::coefficients(range.lr, range.weight_decay, options_.beta1, options_.beta2, steps_));
  std::vector<double> changing;   // the coefficients of each group and the clip coefficient: one upload
  for (const kernels::AdamWCoefficients& k : now)
    changing.insert(changing.end(), {k.decay, k.step_size, k.inverse_root});
  changing.push_back(clip_coefficient);
  const Device device = flat_.values().device();
  const Tensor host = Tensor::from(changing, {static_cast<std::int64_t>(changing.size())});
  const Tensor there = upload({&host, 1}, device).front();
  const std::vector<kernels::AdamWGroup> groups = kernel_groups();
  kernels::AdamW params = kernel(groups);
  params.coefficients = coefficients_in(there);
  params.clip = there.data<double>() + changing.size() - 1;
  const bool defers = deferred_ && can_defer(now);
  if (deferred_ && (!defers || steps_ - deferred_->flushed > kHistory)) flush();
  if (defers) params.deferred = deferred_rows(there);
  try {
    Runtime::instance().launch(device, params, "adamw");
  } catch (...) {
    if (deferred_) deferred_->step.fill_(static_cast<double>(deferred_->last));
    throw;
  }
  if (defers) deferred_->last = steps_;
  if (deferred_ && !defers) loaded();   // every row was updated
}

}  // namespace sinter::optim
