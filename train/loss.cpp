#include "train/loss.h"

#include <algorithm>

#include "core/error.h"
#include "core/ops/cross_entropy.h"
#include "train/inputs.h"

namespace sinter::train {

ModelOutput classification_loss(const nn::BertForSequenceClassification& model, nn::BertInputs arrays,
                                double label_smoothing) {
  const Tensor labels = arrays.labels;
  if (label_smoothing > 0) arrays.labels = {};
  const nn::BertOutput output = model(arrays);
  if (label_smoothing == 0 || !labels.defined()) return {output.loss, {output.logits}};
  const CrossEntropyOptions options{.reduction = Reduction::sum, .label_smoothing = label_smoothing};
  return {arrays.per_item(cross_entropy(output.logits, labels, options)), {output.logits}};
}

ModelOutput classification_loss(nn::Module& model, const LossInputs& inputs, double label_smoothing) {
  const auto* bert = dynamic_cast<const nn::BertForSequenceClassification*>(&model);
  if (bert == nullptr)
    fail(ErrorCode::usage,
         "the model is no BertForSequenceClassification, so its loss is not known; give compute_loss");
  return classification_loss(*bert, to_inputs(inputs.batch, inputs.num_items), label_smoothing);
}

std::int64_t count_items(std::span<const std::int64_t> labels, std::span<const std::int64_t> rows) {
  if (labels.empty()) return static_cast<std::int64_t>(rows.size());
  return std::count_if(rows.begin(), rows.end(),
                       [&](std::int64_t row) { return labels[static_cast<std::size_t>(row)] != -100; });
}

}  // namespace sinter::train
