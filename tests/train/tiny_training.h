// A BERT that is small enough for the emulated machine, and batches for it.
#pragma once

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "data/collator.h"
#include "nn/bert.h"
#include "nn/layers.h"
#include "optim/adamw.h"

namespace sinter::train::testing {

inline constexpr std::int64_t kWords = 60, kPositions = 24;

inline std::unique_ptr<nn::BertForSequenceClassification> tiny_bert(Device device, Dtype compute) {
  auto model = std::make_unique<nn::BertForSequenceClassification>(
      nn::BertConfig{.vocab_size = kWords, .hidden_size = 64, .num_hidden_layers = 1, .num_attention_heads = 2,
                     .intermediate_size = 128, .max_position_embeddings = kPositions});
  nn::init_weights(*model, 0.05, 7);
  model->to(device);
  model->set_compute_dtype(compute);
  return model;
}

/// In 16 bits, the weights of products have copies in that dtype, and their gradients are kept in it where asked for.
inline optim::AdamW& with_low_copies(optim::AdamW& optimizer, nn::Module& model, Dtype compute, bool low_gradients) {
  if (compute == Dtype::f32) return optimizer;
  std::vector<std::string> names;
  for (const auto& [path, module] : model.named_modules())
    if (dynamic_cast<nn::Linear*>(module) != nullptr) names.push_back(path + ".weight");
  optimizer.parameters().keep_low_copy(compute, names, low_gradients);
  return optimizer;
}

/// The bytes of all parameters.
inline std::vector<std::byte> weights_of(optim::AdamW& optimizer) {
  optimizer.flush();
  const Tensor on_host = optimizer.parameters().values().to(Device::cpu());
  const auto* begin = static_cast<const std::byte*>(on_host.data());
  return {begin, begin + on_host.numel() * static_cast<std::int64_t>(size_of(on_host.dtype()))};
}

/// Two or three samples, or `samples`, of 1 to 20 words.
inline data::CollatedBatch random_batch(std::mt19937& random, std::int64_t first_sample, std::int64_t samples = 0) {
  data::CollatedBatch batch;
  batch.packed = true;
  batch.sample_count = samples > 0 ? samples : 2 + static_cast<std::int64_t>(random() % 2);
  batch.first_sample = first_sample;
  batch.offsets.push_back(0);
  for (std::int64_t b = 0; b < batch.sample_count; ++b) {
    const auto length = static_cast<std::int64_t>(1 + random() % 20);
    for (std::int64_t s = 0; s < length; ++s) {
      batch.input_ids.push_back(static_cast<std::int64_t>(1 + random() % (kWords - 1)));
      batch.token_type_ids.push_back(static_cast<std::int64_t>(random() % 2));
      batch.position_ids.push_back(s);
    }
    batch.lengths.push_back(length);
    batch.offsets.push_back(static_cast<std::int32_t>(batch.input_ids.size()));
    batch.sequence_length = std::max(batch.sequence_length, length);
    batch.labels.push_back(static_cast<std::int64_t>(random() % 2));
  }
  batch.token_count = static_cast<std::int64_t>(batch.input_ids.size());
  return batch;
}

}  // namespace sinter::train::testing
