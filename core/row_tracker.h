// Which rows of a table's gradient may be other than zero: of a word table of 30,000 rows a step touches a few hundred.
#pragma once

#include <functional>

#include "core/tensor.h"
#include "kernels/touched_rows.h"

namespace sinter {

/// Belongs to a leaf [rows, cols] whose gradient lives in a flat buffer (FlatParameters::track_rows). Rows without a
/// mark hold zeros, always: who adds to some rows marks them (ops do so for `embedding`), who writes in another way
/// marks all. Marks and zeros are written by launches whose sizes do not depend on the marks.
class RowTracker {
 public:
  /// `gradient` is the leaf's, contiguous; its memory becomes zero. It begins at element `begin` of the flat buffer.
  RowTracker(const Tensor& gradient, std::int64_t begin);

  /// Marks the rows `ids`, i64 of any shape on the gradient's device, each in [0, rows).
  void mark(const Tensor& ids);
  void mark_all();
  /// Writes zeros into the marked rows and takes the marks away.
  void zero();

  /// For kernels that read the flat gradient. Ends with the tracker.
  kernels::TouchedRows touched() const;
  Tensor marks() const { return marks_; }   ///< i32 [rows], 0 or 1

  /// Where rows of the table may lag behind (optim::AdamW::defer_rows): brings those of `ids` up to date, or all rows
  /// where `ids` is null. Empty: none lags. Ops of `embedding` call it before they read the table.
  std::function<void(const Tensor* ids)> make_current;

 private:
  Tensor gradient_, marks_;
  std::int64_t begin_;
};

}  // namespace sinter
