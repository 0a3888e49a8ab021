#include "bench/bert_job.h"

#include <algorithm>
#include <iterator>
#include <random>
#include <vector>

#include "core/error.h"

namespace sinter::bench {

void BertJob::add_options(OptionTable& table) {
  table.choice("--shape", shape, {"bert-base", "minilm", "tiny"}, "bert-base, minilm or tiny; the default is " + shape)
      .integer("--batch_size", batch_size, 1, 1 << 20, "samples of a batch, " + std::to_string(batch_size))
      .integer("--length", length, 0, 512, "tokens of every sentence; the default, 0, is lengths as SST-2's");
}

void BertJob::check() const {
  if (length == 1) fail(ErrorCode::usage, "--length is 1, it must be 0, or from 2 to 512: [CLS] and [SEP] count");
}

nn::BertConfig BertJob::config() const {
  nn::BertConfig config;   // bert-base
  if (shape == "minilm") config.hidden_size = 384, config.num_hidden_layers = 6, config.intermediate_size = 1536;
  if (shape == "tiny") {
    config.vocab_size = 1000;
    config.hidden_size = 64, config.num_hidden_layers = 2, config.num_attention_heads = 2;
    config.intermediate_size = 128;
  }
  return config;
}

std::int64_t BertJob::tokens_of(std::int64_t in_batch) const {
  // 16 quantiles of the lengths of SST-2's training sentences, with [CLS] and [SEP].
  constexpr std::int64_t kLengths[] = {4, 4, 5, 6, 7, 7, 8, 10, 11, 12, 14, 16, 19, 23, 28, 37};
  return length > 0 ? length : kLengths[in_batch % std::ssize(kLengths)];
}

std::string BertJob::describe(const std::string& dtype) const {
  return shape + ", " + dtype + ", " + std::to_string(batch_size) + " sentences" +
         (length > 0 ? " of " + std::to_string(length) + " tokens" : " as long as SST-2's");
}

data::Dataset BertJob::sentences(std::int64_t batches, std::uint64_t seed) const {
  constexpr std::int32_t kClassify = 101, kSeparate = 102, kFirstWord = 103;   // bert-base-uncased's
  constexpr std::int64_t kMostWords = 11573;                                   // that SST-2 uses
  std::vector<double> weights;
  for (std::int64_t rank = 1; rank <= std::min(kMostWords, config().vocab_size - kFirstWord); ++rank)
    weights.push_back(1.0 / static_cast<double>(rank));
  std::discrete_distribution<std::int32_t> word(weights.begin(), weights.end());
  std::mt19937_64 random(seed);
  data::Lists ids;
  data::Column::Integers labels;
  for (std::int64_t row = 0; row < batches * batch_size; ++row) {
    std::vector<std::int32_t> sentence{kClassify};
    while (static_cast<std::int64_t>(sentence.size()) < tokens_of(row % batch_size) - 1)
      sentence.push_back(kFirstWord + word(random));
    sentence.push_back(kSeparate);
    ids.push_back(sentence);
    labels.push_back(static_cast<std::int64_t>(random() % 2));
  }
  return data::Dataset(data::Columns{{"input_ids", ids}, {"labels", labels}});
}

}  // namespace sinter::bench
