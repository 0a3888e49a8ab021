#include "train/inputs.h"

namespace sinter::train {

nn::BertInputs to_inputs(const data::CollatedBatch& batch, double num_items) {
  nn::BertInputs inputs;
  inputs.num_items_in_batch = num_items;
  if (!batch.labels.empty()) inputs.labels = Tensor::from(batch.labels, {batch.sample_count});
  if (batch.packed) {
    const Shape shape{batch.token_count};
    inputs.packing = Packing::packed(batch.lengths);
    inputs.input_ids = Tensor::from(batch.input_ids, shape);
    inputs.token_type_ids = Tensor::from(batch.token_type_ids, shape);
    inputs.position_ids = Tensor::from(batch.position_ids, shape);
    return inputs;
  }
  const Shape shape{batch.sample_count, batch.sequence_length};
  inputs.input_ids = Tensor::from(batch.input_ids, shape);
  inputs.token_type_ids = Tensor::from(batch.token_type_ids, shape);
  inputs.attention_mask = Tensor::from(batch.attention_mask, shape);
  return inputs;
}

}  // namespace sinter::train
