// AdamW over flat buffers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernels/adamw.h"
#include "optim/optimizer.h"

namespace sinter::optim {

struct AdamWOptions {
  double lr = 5e-5;
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
};

/// torch.optim.AdamW (formula in kernels/adamw.h); one kernel a step for all parameters. Its states are exp_avg and
/// exp_avg_sq.
class AdamW final : public Optimizer {
 public:
  /// Error(usage) for an option out of range and for a parameter that does not require grad.
  AdamW(std::vector<ParameterGroup> groups, AdamWOptions options);
  ~AdamW() override;

  /// From now on the rows of this parameter, a table [rows, cols], that got no gradient are updated late: when a
  /// forward reads them, or by flush(). The bits are those of the update of every row, and what a step costs grows with
  /// the rows that it touches instead of with the table: for a word table that is the better part of an update.
  ///
  /// `embedding` and `embedding_layer_norm` bring the rows that they read up to date by themselves. Everything else
  /// that reads or writes the table, or its moments, calls flush() before: saving, copying or changing the weights,
  /// looking at them, ops that know nothing of rows. state_tensors(), load_state(), a new optimizer over the same
  /// parameters and the end of this one do. The gradient is zero outside touched rows, and never stale
  /// (FlatParameters::track_rows). A step whose gradient came through a row that was not up to date is an error.
  ///
  /// Error(usage) for an unknown name, a parameter that is no matrix, and a second table; again for the same one does
  /// nothing.
  void defer_rows(const std::string& name);
  /// Brings these rows of the table up to date: ids i64 of any shape, each in [0, rows). For readers that name their
  /// rows and are no embedding op.
  void prepare_rows(const Tensor& ids);
  void flush() override;

 private:
  friend class QueuedUpdate;   // the same kernel, with numbers that the device computes
  /// What defer_rows() keeps.
  struct Deferred {
    RowTracker* rows;            ///< of flat_
    const Segment* segment;      ///< of flat_
    Tensor current;              ///< i64 [rows]: the update that each row has seen last
    Tensor step;                 ///< i64 [1]: updates done; adam_t of a QueuedUpdate, which counts them then
    bool queued = false;         ///< so it is: the host knows only how many updates it launched
    Tensor history;              ///< f64 [kHistory, groups, 3]: the coefficients of update t stand at t % kHistory
    std::int64_t flushed = 0;    ///< after this update every row was up to date
    std::int64_t last = 0;       ///< updates done; queued ones that the device skipped count until they are drained
  };

  void update(double clip_coefficient) override;
  bool knows_low_side() const override { return true; }
  std::vector<kernels::AdamWGroup> kernel_groups() const;
  /// The kernel over `groups`, which must stay where they are; without coefficients and clip.
  kernels::AdamW kernel(const std::vector<kernels::AdamWGroup>& groups);
  void loaded() override;
  void catch_up(const Tensor* ids);
  /// Lets a QueuedUpdate count the updates, in `step` (i64 [1]). All rows must be up to date.
  void queue_deferred(const Tensor& step);
  /// Before another queued update: makes room in the history for its coefficients.
  void flush_when_due();
  kernels::DeferredRows deferred_rows(const Tensor& there);
  /// Whether what a row misses can be replayed without looking at its gradient.
  bool can_defer(const std::vector<kernels::AdamWCoefficients>& now) const;

  AdamWOptions options_;
  std::optional<Deferred> deferred_;
};

}  // namespace sinter::optim
