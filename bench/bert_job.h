// The job that whole steps are measured with: a BERT with seeded random weights, and random words as long as SST-2's.
#pragma once

#include <cstdint>
#include <string>

#include "bench/program.h"
#include "data/dataset.h"
#include "nn/bert.h"

namespace sinter::bench {

struct BertJob {
  std::string shape = "bert-base";   ///< bert-base, minilm or tiny
  std::int64_t batch_size = 16;      ///< samples of a batch
  std::int64_t length = 0;           ///< tokens of every sentence; 0: as SST-2's

  /// --shape, --batch_size and --length, whose defaults are the values so far.
  void add_options(OptionTable& table);
  /// Error(usage) for what no single option shows.
  void check() const;

  nn::BertConfig config() const;
  /// Tokens of sample `in_batch` of every batch.
  std::int64_t tokens_of(std::int64_t in_batch) const;
  /// "minilm, f32, 16 sentences as long as SST-2's"
  std::string describe(const std::string& dtype) const;
  /// `batches` of them, one behind the other. Words are as frequent as their rank says (Zipf): a batch of SST-2's
  /// lengths has as many different ones as SST-2's.
  data::Dataset sentences(std::int64_t batches, std::uint64_t seed) const;
};

}  // namespace sinter::bench
