// Hugging Face's Trainer example: bert-base-uncased learns SST-2. Needs the folder SST-2 of GLUE and the model, which
// is a folder or in Hugging Face's cache.
#include <cstdio>

#include "core/error.h"
#include "data/auto_tokenizer.h"
#include "data/load_dataset.h"
#include "nn/pretrained.h"
#include "train/trainer.h"

using namespace sinter;

int main() try {
  auto dataset = data::load_dataset("glue", "sst2", {.data_dir = "SST-2"});
  auto tokenizer = data::AutoTokenizer::from_pretrained("bert-base-uncased");
  auto tokenized = dataset.map([&](const data::Batch& batch) {
    return tokenizer(batch.text("sentence"), {.truncation = true, .max_length = 128});
  });
  auto model = nn::AutoModelForSequenceClassification::from_pretrained("bert-base-uncased", {.num_labels = 2});
  auto accuracy = train::load_metric("accuracy");

  train::TrainingArguments args{.output_dir = "results",
                                .learning_rate = 2e-5,
                                .per_device_train_batch_size = 16,
                                .num_train_epochs = 3,
                                .weight_decay = 0.01,
                                .eval_strategy = "epoch",
                                .save_strategy = "epoch",
                                .load_best_model_at_end = true,
                                .metric_for_best_model = "accuracy"};
  train::Trainer trainer({.model = model,
                          .args = args,
                          .train_dataset = tokenized["train"],
                          .eval_dataset = tokenized["validation"],
                          .tokenizer = tokenizer,
                          .data_collator = data::DataCollatorWithPadding(tokenizer),
                          .compute_metrics = accuracy});
  trainer.train();
  auto results = trainer.evaluate();
  trainer.save_model();
  std::printf("accuracy: %.4f\n", results.at("eval_accuracy"));
} catch (const Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 2;
}
