#include "optim/queued_update.h"

#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/runtime/runtime.h"

namespace sinter::optim {
namespace {

using kernels::UpdateRecord;
using kernels::UpdateState;

template <class T>
Tensor room_for(std::int64_t count, Device device) {
  return Tensor::zeros({count * static_cast<std::int64_t>(sizeof(T))}, {Dtype::u8, device});
}
template <class T>
T* at(const Tensor& bytes) {
  return static_cast<T*>(bytes.data());
}

template <class T>
void write(const Tensor& bytes, std::span<const T> values) {
  Runtime::instance().copy(bytes.device(), bytes.data(), Device::cpu(), values.data(), values.size_bytes());
}
template <class T>
void read(const Tensor& bytes, std::span<T> values) {
  Runtime::instance().copy(Device::cpu(), values.data(), bytes.device(), bytes.data(), values.size_bytes());
}

void check_lr(const std::vector<double>& table) {
  if (table.empty()) fail(ErrorCode::usage, "QueuedUpdate: the table of learning rates is empty");
  for (std::size_t i = 0; i < table.size(); ++i)
    if (!(table[i] >= 0 && std::isfinite(table[i])))
      fail(ErrorCode::usage, "QueuedUpdate: the learning rate of step ", i, " is ", table[i],
           ", it must be finite and not negative");
}

void check_options(const QueuedUpdateOptions& options) {
  check_lr(options.lr);
  if (!(options.max_grad_norm >= 0))
    fail(ErrorCode::usage, "QueuedUpdate: max_grad_norm is ", options.max_grad_norm, ", it must not be negative");
  if (options.max_nonfinite_in_a_row < 1)
    fail(ErrorCode::usage, "QueuedUpdate: max_nonfinite_in_a_row is ", options.max_nonfinite_in_a_row,
         ", it must be at least 1");
  if (options.record_count < 1)
    fail(ErrorCode::usage, "QueuedUpdate: record_count is ", options.record_count, ", it must be at least 1");
}

}  // namespace

QueuedUpdate::QueuedUpdate(AdamW& optimizer, const QueuedUpdateOptions& options)
    : optimizer_(optimizer), device_(optimizer.flat_.values().device()), low_(optimizer.flat_.low_side()) {
  check_options(options);
  optimizer_.check_drained("a QueuedUpdate");
  if (optimizer_.is_sharded() && optimizer_.flat_.has_low_gradients())
    fail(ErrorCode::unsupported, "QueuedUpdate: gradients are kept in 16 bits, and ranks share the optimizer's states "
         "out (shard_states); call keep_low_copy without low_gradients");
  optimizer_.flush();
  UpdateState begin;
  prepare_.record_count = options.record_count;
  prepare_.max_nonfinite_in_a_row = options.max_nonfinite_in_a_row;
  if (options.loss_scaler) {
    prepare_.scales_loss = true;
    prepare_.loss_scale = loss_scale_rules(*options.loss_scaler);
    begin.scale = options.loss_scaler->init_scale;
  }
  state_ = room_for<UpdateState>(1, device_);
  prepare_.state = at<UpdateState>(state_);
  records_ = room_for<UpdateRecord>(options.record_count, device_);
  prepare_.records = at<UpdateRecord>(records_);
  prepare_.lr_count = static_cast<std::int64_t>(options.lr.size());
  lr_ = room_for<double>(prepare_.lr_count, device_);
  prepare_.lr = at<double>(lr_);
  set_lr(options.lr);
  place_groups();
  if (optimizer_.deferred_) place_deferred();
  if (options.max_grad_norm > 0 || options.loss_scaler) place_norm(options.max_grad_norm);
  begin.adam_t = optimizer_.steps_;
  write_state(begin);
}

void QueuedUpdate::place_groups() {
  std::vector<kernels::UpdateGroup> groups;
  for (const AdamW::GroupRange& range : optimizer_.group_ranges())
    groups.push_back({optimizer_.group_factors_[static_cast<std::size_t>(range.group)].second, range.weight_decay});
  const auto count = static_cast<std::int64_t>(groups.size());
  groups_ = room_for<kernels::UpdateGroup>(count, device_);
  write(groups_, std::span<const kernels::UpdateGroup>(groups));
  coefficients_ = room_for<kernels::AdamWCoefficients>(count, device_);
  ranges_ = optimizer_.kernel_groups();
  adamw_ = optimizer_.kernel(ranges_);
  adamw_.coefficients = prepare_.coefficients = at<kernels::AdamWCoefficients>(coefficients_);
  adamw_.clip = &prepare_.state->clip;
  adamw_.skip = &prepare_.state->skip;
  prepare_.groups = at<kernels::UpdateGroup>(groups_);
  prepare_.group_count = static_cast<int>(count);
  prepare_.beta1 = adamw_.beta1;
  prepare_.beta2 = adamw_.beta2;
}

/// The optimizer's late rows count the updates of this state, and find their coefficients in its history.
void QueuedUpdate::place_deferred() {
  AdamW::Deferred& deferred = *optimizer_.deferred_;
  static_assert(offsetof(UpdateState, adam_t) % sizeof(std::int64_t) == 0);
  optimizer_.queue_deferred(Tensor::view_of(state_.storage(), offsetof(UpdateState, adam_t) / sizeof(std::int64_t), {1},
                                            {1}, Dtype::i64));
  prepare_.history = reinterpret_cast<kernels::AdamWCoefficients*>(deferred.history.data<double>());
  prepare_.history_size = deferred.history.size(0);
  adamw_.deferred = {deferred.rows->touched(), deferred.current.data<std::int64_t>(),
                     deferred.step.data<std::int64_t>()};
}

void QueuedUpdate::place_norm(double max_grad_norm) {
  norm_ = Tensor::zeros({2}, {Dtype::f64, device_});
  kernels::SquaredNorm params = optimizer_.flat_.squared_norm();
  params.sum = norm_.data<double>();
  params.nonfinite = reinterpret_cast<std::int32_t*>(norm_.data<double>() + 1);
  norm_workspace_ = room_for<std::uint8_t>(
      static_cast<std::int64_t>(Runtime::instance().workspace(device_, params)), device_);
  params.workspace = norm_workspace_.data();
  prepare_.squared_norm = params.sum;
  prepare_.nonfinite = params.nonfinite;
  prepare_.max_norm = max_grad_norm > 0 ? max_grad_norm : std::numeric_limits<double>::infinity();
  squared_norm_ = params;
}

Tensor QueuedUpdate::loss_gradient() const {
  static_assert(offsetof(UpdateState, loss_gradient) % sizeof(float) == 0);
  return Tensor::view_of(state_.storage(), offsetof(UpdateState, loss_gradient) / sizeof(float), {}, {}, Dtype::f32);
}

Tensor QueuedUpdate::loss() const {
  static_assert(offsetof(UpdateState, loss) % sizeof(double) == 0);
  return Tensor::view_of(state_.storage(), offsetof(UpdateState, loss) / sizeof(double), {1}, {1}, Dtype::f64);
}

void QueuedUpdate::add_loss(const Tensor& loss) {
  if (loss.numel() != 1 || !is_floating(loss.dtype()) || loss.device() != device_)
    fail(ErrorCode::usage, "QueuedUpdate::add_loss: the loss is ", name(loss.dtype()), " ", loss.shape(), " on ",
         loss.device().str(), ", it must be one floating number on ", device_.str());
  const kernels::AccumulateLoss params{.dtype = loss.dtype(), .loss = loss.data(), .state = prepare_.state};
  Runtime::instance().launch(device_, params, "QueuedUpdate::add_loss");
}

void QueuedUpdate::run() {
  optimizer_.flat_.refresh_low_copies();   // a skipped update writes none
  count(!optimizer_.is_sharded());
  const NoGradGuard guard;
  optimizer_.flat_.settle_gradients();
  Runtime& runtime = Runtime::instance();
  if (squared_norm_) runtime.launch(device_, *squared_norm_, "QueuedUpdate");
  runtime.launch(device_, prepare_, "QueuedUpdate");
  if (!ranges_.empty()) runtime.launch(device_, adamw_, "QueuedUpdate");
  if (!optimizer_.is_sharded()) return;
  optimizer_.share_values();
  optimizer_.flat_.refresh_low_copies();   // those of the other ranks' values are nobody else's
}

void QueuedUpdate::count_replay() { count(true); }

void QueuedUpdate::count(bool writes_low_copies) {
  if (is_full())
    fail(ErrorCode::usage, "QueuedUpdate: ", optimizer_.undrained_, " updates wait for drain(), and there is room for ",
         prepare_.record_count, " records; drain in time");
  if (optimizer_.steps_ != steps_)
    fail(ErrorCode::usage, "QueuedUpdate: the optimizer has done ", optimizer_.steps_, " updates, ", steps_,
         " of them here; write_state with its adam_t continues after AdamW::step or load_state");
  const FlatParameters::LowSide low = optimizer_.flat_.low_side();
  if (low.values != low_.values || low.gradients != low_.gradients)
    fail(ErrorCode::usage, "QueuedUpdate: keep_low_copy came after it was made; call that before");
  if (optimizer_.deferred_) {
    AdamW::Deferred& deferred = *optimizer_.deferred_;
    if (prepare_.history == nullptr)
      fail(ErrorCode::usage, "QueuedUpdate: defer_rows came after it, for ", deferred.segment->name,
           "; make the QueuedUpdate of an AdamW that defers already");
    if (deferred.last - deferred.flushed >= prepare_.history_size)
      fail(ErrorCode::usage, "QueuedUpdate: rows of ", deferred.segment->name, " are ", prepare_.history_size,
           " updates late, and no more coefficients are kept; call flush_when_due() before each update");
    ++deferred.last;
  }
  ++optimizer_.undrained_;
  optimizer_.flat_.mark_written("QueuedUpdate", writes_low_copies);
}

bool QueuedUpdate::is_full() const { return optimizer_.undrained_ >= prepare_.record_count; }

std::vector<UpdateRecord> QueuedUpdate::drain() {
  const UpdateState state = read_state();
  const std::int64_t done = state.global_step - drained_;
  if (done > prepare_.record_count)
    fail(ErrorCode::usage, "QueuedUpdate::drain: the device did ", done, " updates since the last drain, and there is "
         "room for ", prepare_.record_count, " records; count_replay() says when to drain");
  std::vector<UpdateRecord> ring(static_cast<std::size_t>(prepare_.record_count)), records;
  if (done > 0) read(records_, std::span<UpdateRecord>(ring));
  for (std::int64_t step = drained_; step < state.global_step; ++step)
    records.push_back(ring[static_cast<std::size_t>(step % prepare_.record_count)]);
  drained_ = state.global_step;
  optimizer_.undrained_ = 0;
  optimizer_.steps_ = steps_ = state.adam_t;
  if (optimizer_.deferred_) {   // what the device skipped is no update
    const std::int64_t skipped = optimizer_.deferred_->last - state.adam_t;
    optimizer_.deferred_->last -= skipped;
    optimizer_.deferred_->flushed -= skipped;
  }
  return records;
}

UpdateState QueuedUpdate::read_state() const {
  UpdateState state;
  read(state_, std::span<UpdateState>(&state, 1));
  return state;
}

void QueuedUpdate::check_state(const UpdateState& state) const {
  const auto require = [](bool holds, const char* field, auto value, const char* rule) {
    if (!holds) fail(ErrorCode::bad_input, "QueuedUpdate::write_state: ", field, " is ", value, ", it must ", rule);
  };
  for (const auto& [field, value] : {std::pair{"global_step", state.global_step},
                                     std::pair{"scheduler_steps", state.scheduler_steps},
                                     std::pair{"adam_t", state.adam_t},
                                     std::pair{"nonfinite_in_a_row", state.nonfinite_in_a_row}})
    require(value >= 0, field, value, "not be negative");
  const std::int64_t interval = prepare_.loss_scale.growth_interval;
  if (prepare_.scales_loss) {
    require(state.scale >= prepare_.loss_scale.min_scale && std::isfinite(static_cast<float>(state.scale)), "scale",
            state.scale, "be finite in f32 and not below min_scale");
    require(state.growth_tracker >= 0 && state.growth_tracker < interval, "growth_tracker", state.growth_tracker,
            "lie in [0, growth_interval)");
  } else {
    require(state.scale == 1, "scale", state.scale, "be 1 without a loss_scaler");
  }
}

void QueuedUpdate::write_state(const UpdateState& state) {
  optimizer_.check_drained("QueuedUpdate::write_state");
  optimizer_.flush();
  check_state(state);
  UpdateState next = state;
  next.loss_gradient = static_cast<float>(state.scale);
  write(state_, std::span<const UpdateState>(&next, 1));
  drained_ = state.global_step;
  optimizer_.steps_ = steps_ = state.adam_t;
  optimizer_.loaded();
}

void QueuedUpdate::flush_when_due() { optimizer_.flush_when_due(); }

void QueuedUpdate::set_lr(const std::vector<double>& table) {
  check_lr(table);
  const auto room = static_cast<std::size_t>(prepare_.lr_count);
  if (table.size() > room)
    fail(ErrorCode::usage, "QueuedUpdate::set_lr: the table has ", table.size(), " learning rates, the first one had ",
         room, "; a table keeps its place on the device and may not grow");
  std::vector<double> padded = table;
  padded.resize(room, table.back());
  write(lr_, std::span<const double>(padded));
}

}  // namespace sinter::optim
