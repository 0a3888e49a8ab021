// What every optimizer is.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/flat_parameters.h"
#include "core/parameter.h"
#include "core/process_group.h"

namespace sinter::optim {

/// Parameters that share their weight decay; lr_scale multiplies the learning rate (layer-wise decay and the like).
struct ParameterGroup {
  ParameterList parameters;
  double weight_decay = 0;
  double lr_scale = 1;
};

/// Moves the parameters into FlatParameters at construction. Results do not depend on the number of threads.
class Optimizer {
 public:
  virtual ~Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;

  void zero_grad() { flat_.zero_grad(); }
  /// One update with the gradients times `clip_coefficient` (see optim/clip.h); a coefficient that is not finite is an
  /// Error(usage), and nothing is written. Parameters that got no gradient count as having a gradient of zero.
  /// Error(usage) also while updates of a QueuedUpdate (optim/queued_update.h) were not drained; so with load_state().
  void step(double clip_coefficient = 1);

  void set_lr(double lr) { lr_ = lr; }
  double lr() const { return lr_; }
  /// Updates done; those of a QueuedUpdate since they were drained.
  std::int64_t steps() const { return steps_; }
  FlatParameters& parameters() { return flat_; }

  /// Brings up to date what update() leaves for later (AdamW::defer_rows); before anybody reads or writes values or
  /// states in another way than a forward does. Does nothing where nothing is left.
  virtual void flush() {}

  /// ZeRO stage 1 (Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models"): from
  /// now on this rank keeps the states of about 1 / R of the elements and updates these, and step() hands the values on
  /// to all ranks. The bits are those of an optimizer that keeps all. Each rank has an optimizer over the same
  /// parameters with the same options, and gradients that are whole and the same on every rank; all call step() (or run
  /// the same updates of a QueuedUpdate) and state_tensors() together. Again with the same ranks does nothing.
  /// Error(usage) when there are states already.
  void shard_states(std::shared_ptr<ProcessGroup> ranks);
  bool is_sharded() const { return ranks_ != nullptr; }

  /// The state by name, "<state>.<parameter>", in the parameters' shapes: views, but copies on the CPU of a sharded
  /// one's, whole on rank 0 and none on other ranks. Flushes.
  std::vector<std::pair<std::string, Tensor>> state_tensors();
  /// Reads every state through `read` and takes `steps` as the number of updates done. Flushes first. Error(bad_input)
  /// when a shape or dtype differs.
  void load_state(const std::function<Tensor(const std::string& name)>& read, std::int64_t steps);

 protected:
  /// `name` stands in messages, `states` are FlatParameters' buffers that a checkpoint keeps. Empty groups are left
  /// out. Error(usage) for a learning rate or a weight decay that is negative or not finite.
  Optimizer(const char* name, double lr, std::vector<const char*> states, std::vector<ParameterGroup> groups);

  struct GroupRange {
    int group;
    std::int64_t begin, end;    ///< elements of own()
    double lr, weight_decay;
  };
  /// Those of the groups that have elements which update() is to write.
  std::vector<GroupRange> group_ranges() const;
  /// The elements of a flat buffer [N] that update() is to write: all, or this rank's. Buffers of state() are of these.
  Tensor own(const Tensor& flat) const;
  /// True where update() writes the 16-bit copies and reads the 16-bit gradients of FlatParameters::keep_low_copy.
  /// Otherwise a copy costs a cast after each update, and gradients in 16 bits are an Error(unsupported) in step().
  virtual bool knows_low_side() const { return false; }
  /// Writes own(flat_.values()). steps() counts this update already, and every gradient is whole.
  virtual void update(double clip_coefficient) = 0;
  /// load_state() has replaced states and steps().
  virtual void loaded() {}
  /// Of a sharded one: the values become those that each rank has updated.
  void share_values();
  /// Error(usage) that names `what` while steps_ is behind the device.
  void check_drained(const char* what) const;

  const char* name_;
  double lr_;
  std::vector<const char*> states_;
  std::vector<std::pair<double, double>> group_factors_;   // weight decay, lr scale
  FlatParameters flat_;
  std::shared_ptr<ProcessGroup> ranks_;   // that share the states out; null: this one keeps all
  std::int64_t steps_ = 0;
  std::int64_t undrained_ = 0;   // updates of a QueuedUpdate that steps_ does not count yet

 private:
  Tensor whole_state(const char* state);
};

}  // namespace sinter::optim
