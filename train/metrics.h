// Scores of predictions.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace sinter::train {

/// The logits of a whole data set, in its order, and its labels.
struct EvalPrediction {
  std::span<const float> predictions;   ///< [N, num_labels], row by row
  std::int64_t num_labels = 0;
  std::span<const std::int64_t> label_ids;   ///< [N]

  /// Index of the largest logit of sample i; the first among equals.
  std::int64_t predicted(std::size_t i) const;
};

using Metrics = std::map<std::string, double>;
using ComputeMetrics = std::function<Metrics(const EvalPrediction&)>;

/// {"accuracy": share of samples whose largest logit is the label's}.
Metrics accuracy(const EvalPrediction& prediction);

}  // namespace sinter::train
