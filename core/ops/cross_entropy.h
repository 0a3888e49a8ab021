// Softmax cross-entropy.
#pragma once

#include "core/tensor.h"

namespace sinter {

enum class Reduction {
  none,   ///< one loss a row
  sum,
  mean,   ///< over the rows that are not ignored; NaN when all are, as in torch
};

struct CrossEntropyOptions {
  Reduction reduction = Reduction::mean;
  std::int64_t ignore_index = -100;
  double label_smoothing = 0;
};

/// -log softmax(logits)[label]: logits [N, C], labels i64 [N]. A label outside [0, C) that is not ignore_index is a
/// usage error that names it where the labels are on the CPU (they may be, whatever the device of the logits), else an
/// error of the device; a label_smoothing outside [0, 1] is a usage error. Losses of f16 and bf16 logits are f32.
Tensor cross_entropy(const Tensor& logits, const Tensor& labels, CrossEntropyOptions options = {});

/// Counts the labels (i64, on the CPU) that are not `ignore_index`. One of them that is outside [0, classes) is a usage
/// error that names it.
std::int64_t check_labels(const Tensor& labels, std::int64_t classes, std::int64_t ignore_index = -100);

}  // namespace sinter
