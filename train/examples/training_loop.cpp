// A training loop without Trainer: a small BERT learns generated reviews.
#include <cstdio>
#include <utility>

#include "core/random.h"
#include "data/reviews.h"
#include "data/sampler.h"
#include "data/tokenizer.h"
#include "nn/bert.h"
#include "optim/adamw.h"
#include "optim/clip.h"
#include "optim/groups.h"
#include "optim/schedule.h"
#include "train/inputs.h"

int main() {
  using namespace sinter;
  const data::BertTokenizer tokenizer(data::review_vocabulary());
  const data::Dataset reviews = data::generate_reviews().train.examples.dataset().map(
      [&](const data::Batch& batch) { return tokenizer(batch.text("sentence")); });
  nn::BertForSequenceClassification model({.vocab_size = tokenizer.vocab_size(), .hidden_size = 64,
                                           .num_hidden_layers = 2, .num_attention_heads = 2, .intermediate_size = 256});
  nn::init_weights(model, 0.02, /*seed=*/42);

  const int steps = 750;  // three epochs
  optim::AdamW optimizer(optim::decay_groups(model.named_parameters(), /*weight_decay=*/0.01), {.lr = 1e-3});
  const optim::Schedule schedule = optim::get_scheduler("linear", /*warmup_steps=*/75, steps);
  const data::DataCollatorWithFlattening collate;
  data::RandomSampler sampler(reviews.size(), /*seed=*/42);
  const data::BatchSampler batches(sampler, /*batch_size=*/32);
  double loss = 0;
  for (int step = 0; step < steps; ++step) {
    sampler.set_epoch(step / batches.size());
    const StepScope scope(/*seed=*/42, static_cast<std::uint32_t>(step));  // names the step to dropout
    const auto batch = collate(reviews, batches.batch_indices(step % batches.size()));
    const nn::BertOutput output = model(train::to_inputs(batch));
    optimizer.zero_grad();
    output.loss.backward();
    optimizer.set_lr(1e-3 * schedule.factor(step));
    optimizer.step(optim::clip_grad_norm(optimizer.parameters(), 1.0).coefficient);
    loss += output.loss.item();
    if (step % 125 == 124) std::printf("step %3d  loss %.4f\n", step + 1, std::exchange(loss, 0) / 125);
  }
}
