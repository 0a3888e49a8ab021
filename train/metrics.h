// Scores of predictions.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/shape.h"
#include "core/tensor.h"
#include "data/column.h"

namespace sinter::train {

/// One output of a model for all samples of a data set, in its order.
struct Predictions {
  std::vector<float> values;   ///< row-major
  Shape shape;                 ///< [N, ...]

  /// Adds the samples of a batch, [B, ...] floating. Where dimension 1 differs from batch to batch all are filled up to
  /// the longest with -100, as HF does. Error(usage) when other dimensions differ, and for a scalar.
  void append(const Tensor& output);
  std::int64_t size() const { return shape.rank() == 0 ? 0 : shape[0]; }
  /// Values of one sample.
  std::int64_t width() const { return size() == 0 ? 0 : shape.numel() / size(); }
};

/// What compute_metrics gets: the predictions of a whole data set, and its labels.
struct EvalPrediction {
  std::span<const float> predictions;        ///< the model's first output, [N, num_labels], row by row
  std::int64_t num_labels = 0;
  std::span<const std::int64_t> label_ids;   ///< [N]; empty when the first label column holds no integers
  std::span<const Predictions> outputs;      ///< every output
  const data::Columns* labels = nullptr;     ///< every label column, by name

  /// Index of the largest logit of sample i; the first among equals.
  std::int64_t predicted(std::size_t i) const;
};

using Metrics = std::map<std::string, double>;
/// To so many decimal places, as HF logs times and speeds.
double rounded(double value, int digits);

using ComputeMetrics = std::function<Metrics(const EvalPrediction&)>;

/// {"accuracy": share of samples whose largest logit is the label's}. Samples with the label -100 do not count.
Metrics accuracy(const EvalPrediction& prediction);

/// The metric of this name, as in HF's package evaluate: accuracy; f1, precision and recall of class 1 (0 where nothing
/// is predicted or nothing there); matthews_correlation; or a task of GLUE, "glue/sst2" or ("glue", "sst2"): accuracy,
/// for mrpc and qqp also f1, for cola matthews_correlation alone. Error(usage) that lists the names for another one.
ComputeMetrics load_metric(const std::string& path, const std::string& config_name = "");

}  // namespace sinter::train
