// Parameters, gradients and optimizer state as a few long buffers, so that each phase of an update is one launch.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/parameter.h"
#include "core/row_tracker.h"
#include "core/tensor.h"

namespace sinter {

/// One parameter's place in the flat buffers.
struct Segment {
  std::string name;
  std::vector<std::string> aliases;      ///< further names of a tied weight
  Shape shape;
  std::int64_t offset = 0, numel = 0;    ///< elements
  int group = 0;
  Dtype gradient_dtype = Dtype::f32;
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
  Tensor& gradients() { return gradients_; }    ///< [N]; whole only after settle_gradients()
  /// A buffer [N] of this name, zeros at first use: "exp_avg".
  Tensor& state(const std::string& name);
  bool has_state(const std::string& name) const { return states_.contains(name); }

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

  /// Declares every gradient old: the next accumulation overwrites. No pass over memory but touched rows.
  void zero_grad();
  /// Writes zeros where no gradient came since zero_grad, so that the flat gradient is defined everywhere.
  void settle_gradients();
  /// Which segments' gradients are old, and that being so again: what a replayed step leaves behind.
  std::vector<bool> stale_gradients() const;
  void set_stale_gradients(const std::vector<bool>& stale);
  /// Raises the version of every parameter: `writer` (a literal) changed values() in place.
  void mark_written(const char* writer);

 private:
  Tensor values_, gradients_;
  std::map<std::string, Tensor> states_;
  std::vector<Segment> segments_;
  std::vector<std::int64_t> group_begin_;
  std::string tracked_name_;
  std::shared_ptr<RowTracker> tracked_rows_;
};

}  // namespace sinter
