#include "train/metrics.h"

#include <algorithm>

namespace sinter::train {

std::int64_t EvalPrediction::predicted(std::size_t i) const {
  const auto row = predictions.subspan(i * static_cast<std::size_t>(num_labels), static_cast<std::size_t>(num_labels));
  return std::max_element(row.begin(), row.end()) - row.begin();
}

Metrics accuracy(const EvalPrediction& prediction) {
  std::int64_t right = 0;
  for (std::size_t i = 0; i < prediction.label_ids.size(); ++i)
    right += prediction.predicted(i) == prediction.label_ids[i] ? 1 : 0;
  const auto n = static_cast<double>(prediction.label_ids.size());
  return {{"accuracy", n == 0 ? 0 : static_cast<double>(right) / n}};
}

}  // namespace sinter::train
