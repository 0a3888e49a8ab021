// What tests of the Trainer share: a folder, a small BERT, a few reviews.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/io/files.h"
#include "core/runtime/runtime.h"
#include "data/reviews.h"
#include "data/tokenizer.h"
#include "nn/bert.h"
#include "train/trainer.h"

namespace sinter::train {

/// Calls a function at the end of each update.
class AtStepEnd final : public TrainerCallback {
 public:
  explicit AtStepEnd(std::function<void(CallbackContext&)> call) : call_(std::move(call)) {}
  void on_step_end(CallbackContext& run) override { call_(run); }

 private:
  std::function<void(CallbackContext&)> call_;
};

class TrainerFixture : public ::testing::Test {
 protected:
  using Bert = std::shared_ptr<nn::BertForSequenceClassification>;

  void SetUp() override {
    folder_ =
        std::filesystem::temp_directory_path() / ("sinter-trainer-" + std::to_string(getpid()) + "-" +
                                                  ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override {
    std::filesystem::remove_all(folder_);
    Runtime::instance().set_num_threads(ThreadPool::available_cores());
  }

  static const data::BertTokenizer& tokenizer() {
    static const data::BertTokenizer instance(data::review_vocabulary());
    return instance;
  }

  /// The first rows of the generated reviews, at most 200.
  static data::Dataset dataset(std::int64_t rows = 90) {
    static const data::Dataset instance =
        data::generate_reviews({.train_size = 4000, .validation_size = 100})
            .train.examples.dataset()
            .take(200)
            .map([](const data::Batch& batch) { return tokenizer()(batch.text("sentence")); });
    return instance.take(rows);
  }

  static Bert model(double dropout = 0.1, std::uint64_t seed = 7) {
    auto made =
        std::make_shared<nn::BertForSequenceClassification>(nn::BertConfig{.vocab_size = tokenizer().vocab_size(),
                                                                           .hidden_size = 32,
                                                                           .num_hidden_layers = 2,
                                                                           .num_attention_heads = 2,
                                                                           .intermediate_size = 64,
                                                                           .hidden_dropout_prob = dropout,
                                                                           .attention_probs_dropout_prob = dropout,
                                                                           .max_position_embeddings = 64});
    nn::init_weights(*made, 0.05, seed);
    return made;
  }

  /// 90 samples in batches of 8, two of them an update: 12 batches and 6 updates an epoch; the last batch has 2.
  TrainingArguments arguments(const std::string& name) const {
    TrainingArguments args;
    args.output_dir = (folder_ / name).string();
    args.per_device_train_batch_size = 8;
    args.gradient_accumulation_steps = 2;
    args.num_train_epochs = 2;
    args.learning_rate = 1e-3;
    args.weight_decay = 0.01;
    args.warmup_steps = 3;
    args.logging_steps = 4;
    args.save_steps = 4;
    args.disable_tqdm = true;
    args.use_cpu = true;
    return args;
  }

  /// Trains and evaluates on dataset().
  static Trainer::Parts parts(const Bert& m, const TrainingArguments& args) {
    return {.model = m,
            .args = args,
            .train_dataset = dataset(),
            .eval_dataset = dataset(),
            .tokenizer = tokenizer(),
            .compute_metrics = accuracy};
  }

  static std::vector<float> weights(const nn::Module& m) {
    std::vector<float> all;
    for (const Parameter& p : m.named_parameters()) {
      const std::vector<float> values = p.tensor.to_vector<float>();
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  }

  static void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
  }

  static std::string bytes(const std::filesystem::path& file) { return read_file(file, std::size_t{1} << 30); }

  std::filesystem::path folder_;
};

}  // namespace sinter::train
