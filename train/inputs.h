// From the host arrays of a batch to a model's tensors.
#pragma once

#include "data/collator.h"
#include "nn/bert.h"

namespace sinter::train {

/// Padded or packed inputs with labels; `num_items` as in BertInputs::num_items_in_batch.
nn::BertInputs to_inputs(const data::CollatedBatch& batch, double num_items = 0);

}  // namespace sinter::train
