// What a model is asked to compute for one batch.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "core/tensor.h"
#include "data/collator.h"
#include "data/dataset.h"
#include "nn/bert.h"

namespace sinter::train {

/// One micro-batch, or one batch of an evaluation.
struct LossInputs {
  const data::CollatedBatch& batch;     ///< only sample_count and first_sample when the data set has no input_ids
  const data::Dataset& dataset;         ///< and where the batch comes from: other columns of these rows
  std::span<const std::int64_t> rows;
  double num_items;                     ///< the loss is the sum over the samples divided by this
};

struct ModelOutput {
  Tensor loss;      ///< scalar; undefined without labels
  Tensors logits;   ///< [B, ...] each: what evaluation and prediction collect
};

/// A Trainer's loss for a model of one's own, HF's compute_loss. Called inside StepScope while training, and without
/// gradients while evaluating. The loss must be the sum over the samples divided by inputs.num_items: only then do k
/// micro-batches of b samples equal one of k * b.
using ComputeLoss = std::function<ModelOutput(nn::Module& model, const LossInputs& inputs)>;

/// The cross entropy of a BertForSequenceClassification for `arrays`, which say what it is divided by. With
/// `label_smoothing` e it is (1 - e) * -log p[label] plus e times the mean over the classes of -log p; samples with the
/// label -100 count for nothing.
ModelOutput classification_loss(const nn::BertForSequenceClassification& model, nn::BertInputs arrays,
                                double label_smoothing);
/// The same for a batch. Error(usage) for another module.
ModelOutput classification_loss(nn::Module& model, const LossInputs& inputs, double label_smoothing);

/// How many samples of these rows count for the loss: those whose label is not -100, or all where there are no labels.
std::int64_t count_items(std::span<const std::int64_t> labels, std::span<const std::int64_t> rows);

}  // namespace sinter::train
