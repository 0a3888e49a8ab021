// One update after the other on the device, without waiting.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/update.h"
#include "optim/adamw.h"
#include "optim/loss_scaler.h"

namespace sinter::optim {

struct QueuedUpdateOptions {
  double max_grad_norm = 0;                      ///< 0: gradients are not clipped
  std::optional<LossScalerOptions> loss_scaler;
  std::vector<double> lr;                        ///< by updates that were not skipped; the last counts for all later
  std::int64_t max_nonfinite_in_a_row = 10;      ///< without a loss_scaler: that many skipped updates end the run
  std::int64_t record_count = 1024;              ///< updates that may wait for drain(), 40 bytes each
};

/// What clip_grad_norm, LossScaler and AdamW::step do together, with every decision made by kernels (kernels/update.h),
/// bit for bit the same on the CPU. An update whose loss or gradient is not finite is skipped. The run halts, and skips
/// all later updates, where the loss scale would fall below its floor, or after max_nonfinite_in_a_row skipped updates
/// without one; the host learns that from the records.
///
///   QueuedUpdate update(optimizer, {.max_grad_norm = 1, .lr = table});
///   for (...) {
///     optimizer.zero_grad();
///     const Tensor loss = ...;                 // f32, on the parameters' device
///     loss.backward(update.loss_gradient());   // once for each micro-batch
///     update.add_loss(loss);
///     update.run();
///     if (update.is_full()) report(update.drain());
///   }
///
/// Everything that the kernels read or write is allocated by the constructor, the optimizer's states included, and
/// stays at its place: what run() launches can be recorded once and replayed. The optimizer's own step() and lr have no
/// part in it; its steps() counts an update when it was drained.
class QueuedUpdate {
 public:
  /// Begins with the optimizer's steps(). Error(usage) for an option out of range, an empty lr table, and while another
  /// QueuedUpdate of this optimizer has updates that were not drained; Error(unsupported) where ranks share its states
  /// out and gradients are kept in 16 bits. The optimizer must outlive this.
  QueuedUpdate(AdamW& optimizer, const QueuedUpdateOptions& options);
  QueuedUpdate(const QueuedUpdate&) = delete;
  QueuedUpdate& operator=(const QueuedUpdate&) = delete;

  /// The loss scale, [] f32 in device memory: the gradient to begin backward of an f32 loss with.
  Tensor loss_gradient() const;
  /// Adds a loss (one element, any floating dtype, not multiplied by the scale) to that of the update under way.
  void add_loss(const Tensor& loss);
  /// The loss of the update under way, [1] f64 in device memory; ranks add theirs up before run(), as their gradients.
  Tensor loss() const;
  /// Launches one update with the gradients as they are; of a sharded optimizer all ranks do, and gather its values.
  /// Error(usage) when is_full(), when step() or load_state() of the optimizer moved its steps() since the last drain,
  /// and when FlatParameters::keep_low_copy came after this was made.
  void run();
  /// What run() does on the host, for an update that a replayed recording of it launches. The same errors. The run()
  /// that was recorded counted too, although it launched nothing: is_full() is early by one until drain(). Before each
  /// replay FlatParameters::refresh_low_copies() takes in what was written since the last.
  void count_replay();

  /// Where the optimizer updates rows of a table late (AdamW::defer_rows): once in a thousand updates brings all of
  /// them up to date. Before each update, and outside of a recording; run() and count_replay() refuse to go on without.
  void flush_when_due();

  /// True when record_count updates wait for drain().
  bool is_full() const;
  /// How many may wait: record_count.
  std::int64_t capacity() const { return prepare_.record_count; }
  /// Waits for the device and gives the records of the updates since the last drain, in their order. Error(usage) when
  /// the device did more updates than there is room for (replays that were not counted).
  std::vector<kernels::UpdateRecord> drain();

  /// Waits for the device; how the run stands behind everything that was launched. What a checkpoint keeps of it:
  /// scale, growth_tracker, global_step, scheduler_steps, adam_t, nonfinite_in_a_row.
  kernels::UpdateState read_state() const;
  /// Continues from `state`, whose loss_gradient follows its scale, and takes its adam_t as the optimizer's steps().
  /// Error(bad_input) for a scale, tracker or counter that no run can have with these options, Error(usage) while
  /// updates wait for drain().
  void write_state(const kernels::UpdateState& state);
  /// The state in device memory, for kernels that read its counters.
  const kernels::UpdateState* device_state() const { return prepare_.state; }

  /// Another table for the updates launched from now on. Error(usage) when it is empty or longer than the first one.
  void set_lr(const std::vector<double>& table);

 private:
  void count(bool writes_low_copies);
  void check_state(const kernels::UpdateState& state) const;
  void place_groups();
  void place_deferred();
  void place_norm(double max_grad_norm);

  AdamW& optimizer_;
  Device device_;
  FlatParameters::LowSide low_;   // when this was made
  Tensor state_, records_, lr_, groups_, coefficients_, norm_, norm_workspace_;
  std::vector<kernels::AdamWGroup> ranges_;
  std::optional<kernels::SquaredNorm> squared_norm_;
  kernels::PrepareUpdate prepare_;
  kernels::AdamW adamw_;
  std::int64_t drained_ = 0;   // the global_step behind the last drain
  std::int64_t steps_ = 0;     // the optimizer's steps() then
};

}  // namespace sinter::optim
