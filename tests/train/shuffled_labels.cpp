// Trains the main job's model on reviews whose labels were shuffled: nothing is left to learn, so the accuracy on the
// held-out split must be that of a coin. Exit code 1 when it is not within 3 points of one half.
#include <cmath>
#include <cstdio>

#include "data/reviews.h"
#include "data/sampler.h"
#include "data/tokenizer.h"
#include "nn/bert.h"
#include "train/trainer.h"

int main(int argc, char** argv) {
  using namespace sinter;
  if (argc != 2) return 2;
  data::Reviews reviews = data::generate_reviews();
  const data::BertTokenizer tokenizer(data::review_vocabulary());
  const auto tokenize = [&](const data::Examples& examples) {
    return examples.dataset().map([&](const data::Batch& batch) { return tokenizer(batch.text("sentence")); });
  };
  const std::vector<std::int64_t> labels = reviews.train.examples.label;
  const data::RandomSampler order(reviews.train.examples.size(), 1234);
  for (std::size_t i = 0; i < labels.size(); ++i)
    reviews.train.examples.label[i] = labels[static_cast<std::size_t>(order.order()[i])];
  const data::Dataset train_set = tokenize(reviews.train.examples);
  const data::Dataset eval_set = tokenize(reviews.validation.examples);

  const auto model = std::make_shared<nn::BertForSequenceClassification>(
      nn::BertConfig{.vocab_size = tokenizer.vocab_size(), .hidden_size = 128, .num_hidden_layers = 2,
                     .num_attention_heads = 2, .intermediate_size = 512, .max_position_embeddings = 128});
  nn::init_weights(*model, 0.02, 42);
  train::TrainingArguments args;
  args.output_dir = argv[1];
  args.overwrite_output_dir = true;
  args.per_device_train_batch_size = 32;
  args.per_device_eval_batch_size = 64;
  args.num_train_epochs = 4;
  args.learning_rate = 5e-4;
  args.warmup_ratio = 0.1;
  args.save_strategy = "no";
  train::Trainer trainer({.model = model, .args = args, .train_dataset = train_set, .eval_dataset = eval_set,
                          .compute_metrics = train::load_metric("accuracy")});
  trainer.train();
  const double accuracy = trainer.evaluate().at("eval_accuracy");
  std::printf("accuracy after training on shuffled labels: %.4f\n", accuracy);
  return std::abs(accuracy - 0.5) <= 0.03 ? 0 : 1;
}
