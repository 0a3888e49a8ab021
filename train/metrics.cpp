#include "train/metrics.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace sinter::train {
namespace {

/// How often class 1 was predicted and there, and not.
struct Confusion {
  double true_positive = 0, false_positive = 0, false_negative = 0, true_negative = 0;
};

void check_labels(const EvalPrediction& prediction) {
  if (prediction.num_labels < 1 ||
      prediction.label_ids.size() * static_cast<std::size_t>(prediction.num_labels) != prediction.predictions.size())
    fail(ErrorCode::usage,
         "a metric of classes needs one label and [num_labels] logits for each sample, and there are ",
         prediction.label_ids.size(), " labels and ", prediction.predictions.size(), " logits");
}

Confusion confusion(const char* metric, const EvalPrediction& prediction) {
  check_labels(prediction);
  if (prediction.num_labels > 2)
    fail(ErrorCode::usage, metric, " is for two classes, and the model has ", prediction.num_labels);
  Confusion found;
  for (std::size_t i = 0; i < prediction.label_ids.size(); ++i) {
    if (prediction.label_ids[i] == -100) continue;
    const bool said = prediction.predicted(i) == 1, is = prediction.label_ids[i] == 1;
    ++(said ? is ? found.true_positive : found.false_positive : is ? found.false_negative : found.true_negative);
  }
  return found;
}

double ratio(double a, double b) { return b == 0 ? 0 : a / b; }

Metrics f1(const EvalPrediction& prediction) {
  const Confusion c = confusion("f1", prediction);
  return {{"f1", ratio(2 * c.true_positive, 2 * c.true_positive + c.false_positive + c.false_negative)}};
}

Metrics precision(const EvalPrediction& prediction) {
  const Confusion c = confusion("precision", prediction);
  return {{"precision", ratio(c.true_positive, c.true_positive + c.false_positive)}};
}

Metrics recall(const EvalPrediction& prediction) {
  const Confusion c = confusion("recall", prediction);
  return {{"recall", ratio(c.true_positive, c.true_positive + c.false_negative)}};
}

Metrics matthews(const EvalPrediction& prediction) {
  const Confusion c = confusion("matthews_correlation", prediction);
  const double said = c.true_positive + c.false_positive, not_said = c.true_negative + c.false_negative;
  const double is = c.true_positive + c.false_negative, is_not = c.true_negative + c.false_positive;
  const double covariance = c.true_positive * c.true_negative - c.false_positive * c.false_negative;
  return {{"matthews_correlation", ratio(covariance, std::sqrt(said * not_said * is * is_not))}};
}

Metrics accuracy_and_f1(const EvalPrediction& prediction) {
  Metrics both = accuracy(prediction);
  both.merge(f1(prediction));
  return both;
}

/// Row-major [rows, length, inner], filled up to [rows, longer, inner] with -100.
std::vector<float> widened(const std::vector<float>& values, std::int64_t rows, std::int64_t length,
                           std::int64_t longer, std::int64_t inner) {
  std::vector<float> wide(static_cast<std::size_t>(rows * longer * inner), -100);
  for (std::int64_t row = 0; row < rows; ++row)
    std::copy_n(values.begin() + row * length * inner, length * inner, wide.begin() + row * longer * inner);
  return wide;
}

}  // namespace

void Predictions::append(const Tensor& output) {
  Shape added = output.shape();
  if (added.rank() == 0) fail(ErrorCode::usage, "a model's output for a batch is a scalar, it must be [batch, ...]");
  std::vector<float> rows = output.to(Dtype::f32).to_vector<float>();
  if (shape.rank() == 0) {
    shape = added;
    values = std::move(rows);
    return;
  }
  bool alike = added.rank() == shape.rank();
  for (int d = 2; alike && d < added.rank(); ++d) alike = added[d] == shape[d];
  if (!alike)
    fail(ErrorCode::usage, "a model's output is ", added, " for one batch and ", shape,
         " before; only the first two dimensions may differ");
  if (added.rank() > 1 && added[1] != shape[1]) {
    const std::int64_t longer = std::max(added[1], shape[1]);
    std::int64_t inner = 1;
    for (int d = 2; d < added.rank(); ++d) inner *= added[d];
    rows = widened(rows, added[0], added[1], longer, inner);
    values = widened(values, shape[0], shape[1], longer, inner);
    shape[1] = longer;
  }
  values.insert(values.end(), rows.begin(), rows.end());
  shape[0] += added[0];
}

std::int64_t EvalPrediction::predicted(std::size_t i) const {
  const auto row = predictions.subspan(i * static_cast<std::size_t>(num_labels), static_cast<std::size_t>(num_labels));
  return std::max_element(row.begin(), row.end()) - row.begin();
}

double rounded(double value, int digits) {
  const double scale = std::pow(10.0, digits);
  return std::round(value * scale) / scale;
}

Metrics accuracy(const EvalPrediction& prediction) {
  check_labels(prediction);
  std::int64_t right = 0, counted = 0;
  for (std::size_t i = 0; i < prediction.label_ids.size(); ++i) {
    if (prediction.label_ids[i] == -100) continue;
    ++counted;
    right += prediction.predicted(i) == prediction.label_ids[i];
  }
  return {{"accuracy", ratio(static_cast<double>(right), static_cast<double>(counted))}};
}

ComputeMetrics load_metric(const std::string& path, const std::string& config_name) {
  const std::string name = config_name.empty() ? path : path + "/" + config_name;
  if (name == "accuracy") return accuracy;
  if (name == "f1") return f1;
  if (name == "precision") return precision;
  if (name == "recall") return recall;
  if (name == "matthews_correlation" || name == "glue/cola") return matthews;
  if (name == "glue/mrpc" || name == "glue/qqp") return accuracy_and_f1;
  for (const char* task : {"sst2", "mnli", "qnli", "rte", "wnli"})
    if (name == "glue/" + std::string(task)) return accuracy;
  fail(
      ErrorCode::usage, "there is no metric \"", name,
      "\"; there are accuracy, f1, precision, recall, matthews_correlation and glue/ with cola, mnli, mrpc, qnli, qqp, "
      "rte, sst2 or wnli");
}

}  // namespace sinter::train
