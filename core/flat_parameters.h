// Parameters, gradients and optimizer state as a few long buffers, so that each phase of an update is one launch.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/low_copy.h"
#include "core/parameter.h"
#include "core/row_tracker.h"
#include "core/tensor.h"
#include "kernels/adamw.h"

namespace sinter {

/// One parameter's place in the flat buffers.
struct Segment {
  std::string name;
  std::vector<std::string> aliases;      ///< further names of a tied weight
  Shape shape;
  std::int64_t offset = 0, numel = 0;    ///< elements
  int group = 0;
  Dtype gradient_dtype = Dtype::f32;     ///< not that of `tensor` where keep_low_copy() said so
  Tensor tensor;
};

/// Moves parameters into flat buffers. The tensors stay the same objects on other memory; their gradients accumulate in
/// the flat gradient buffer. Inside a group the order is the reverse of the given one, because backward completes the
/// last layer first. Segments start at multiples of 16 elements, groups at multiples of kernels::kFlatBlock; the gaps
/// are zero and stay zero. Files store by name, never by offset.
class FlatParameters {
 public:
  /// One list for each group. All parameters have one dtype (f32 or f64) and device and require grad; a tensor that
  /// stands twice in one group is tied and stored once, in two groups it is a usage error. `previous`: state (moments)
  /// of the parameters that it knows by name is carried over, for new groups and unfrozen layers.
  static FlatParameters adopt(const std::vector<ParameterList>& groups, const FlatParameters* previous = nullptr);

  Tensor& values() { return values_; }          ///< [N]
  /// [N]; whole only after settle_gradients(), and meaningless where segments have their gradient in 16 bits.
  Tensor& gradients() { return gradients_; }
  /// A buffer of this name, zeros at first use: "exp_avg". [N], or that of state_range().
  Tensor& state(const std::string& name);
  bool has_state(const std::string& name) const { return states_.contains(name); }
  /// From now on buffers of state() are those of elements [begin, end) alone, borders at multiples of kFlatBlock: the
  /// others are another rank's. Error(usage) where there are buffers of another range already.
  void keep_states_of(std::int64_t begin, std::int64_t end);
  /// The elements that buffers of state() are for.
  std::pair<std::int64_t, std::int64_t> state_range() const { return {state_begin_, state_end_}; }

  const std::vector<Segment>& segments() const { return segments_; }
  /// The segment of a parameter by name or alias; null where there is none.
  const Segment* find(const std::string& name) const;
  int group_count() const { return static_cast<int>(group_begin_.size()); }
  /// Elements [begin, end) of a group, borders at multiples of kFlatBlock.
  std::pair<std::int64_t, std::int64_t> group_range(int group) const;
  std::int64_t numel() const { return values_.numel(); }
  /// The part of a flat buffer that belongs to a segment, in its shape.
  Tensor view(const Segment& segment, const Tensor& flat) const;

  /// From now on the gradient of this parameter, a table, is followed row by row: it is never stale, zero_grad()
  /// zeroes only the rows that were touched, and who writes to gradients() there marks rows. The gradient becomes zero.
  /// At most one table; again for the same one does nothing. Error(usage) for an unknown name, what is no matrix, or a
  /// second table.
  RowTracker& track_rows(const std::string& name);
  /// The tracker of track_rows(); null before.
  RowTracker* tracked_rows() const { return tracked_rows_.get(); }

  /// From now on these parameters have a copy in `low`, f16 or bf16, that rounded() hands out: 2 bytes more for each
  /// element of the buffers. AdamW writes it in its pass; after any other write rounded() does. With `low_gradients`
  /// their gradients are kept in `low` too, 2 bytes more again: backward of a product with the copy writes them there
  /// and nowhere else, and a second product or backward adds to what was rounded. So that is for one backward in each
  /// update, and for losses that are scaled to the range of `low`. Gradients that come in another way (hooks, anomaly
  /// mode, ops that read the parameter itself) are rounded by settle_gradients(). Ends with the next adopt().
  ///
  /// Error(usage) for an unknown name, a table whose rows are tracked, f64 parameters, another dtype, and the second
  /// time.
  void keep_low_copy(Dtype low, const std::vector<std::string>& names, bool low_gradients);
  bool has_low_copy() const { return low_values_.defined(); }
  bool has_low_gradients() const { return low_gradients_.defined(); }
  /// What kernels take of it, in device memory; null pointers where there is none. Ends with this object.
  struct LowSide {
    void* values = nullptr;
    const void* gradients = nullptr;
    Dtype dtype = Dtype::bf16;
    kernels::LowRanges ranges;
  };
  LowSide low_side() const;
  /// What the norm of all gradients reads; where the results and the workspace lie is the caller's.
  kernels::SquaredNorm squared_norm() const;
  /// Rounds again the copies of parameters that were written since: before an update that may be skipped, and before a
  /// recorded step is replayed.
  void refresh_low_copies();

  /// The gradient of a segment, in its gradient_dtype; whole only after settle_gradients().
  Tensor gradient(const Segment& segment) const;
  /// Declares every gradient old: the next accumulation overwrites. No pass over memory but touched rows.
  void zero_grad();
  /// Writes zeros where no gradient came since zero_grad, so that the flat gradient is defined everywhere.
  void settle_gradients();
  void settle_gradient(const Segment& segment);
  /// Every gradient becomes -0, which adds nothing to any number, not even the sign of a zero: of a rank that has no
  /// sample in an update of several.
  void add_nothing();
  /// Which segments' gradients are old, and that being so again: what a replayed step leaves behind.
  std::vector<bool> stale_gradients() const;
  void set_stale_gradients(const std::vector<bool>& stale);
  /// Raises the version of every parameter: `writer` (a literal) changed values() in place, and with `and_low_copy` the
  /// copies of keep_low_copy() too.
  void mark_written(const char* writer, bool and_low_copy = false);

 private:
  void settle_low_gradient(const Segment& segment, autograd::Meta& meta);

  Tensor values_, gradients_;
  Tensor low_values_, low_gradients_;   // [N], undefined without
  Tensor low_ranges_;                   // kernels::FlatRange [], on the device
  std::map<std::string, Tensor> states_;
  std::vector<Segment> segments_;
  std::vector<std::int64_t> group_begin_;
  std::int64_t state_begin_ = 0, state_end_ = 0;   // elements
  std::string tracked_name_;
  std::shared_ptr<RowTracker> tracked_rows_;
};

}  // namespace sinter
