// What the Trainer reads samples from.
#pragma once

#include <cstdint>
#include <vector>

#include "data/collator.h"
#include "data/encoding.h"

namespace sinter::train {

/// Tokenized samples with their labels; labels may be absent (prediction).
struct TokenizedDataset {
  std::vector<data::Encoding> encodings;
  std::vector<std::int64_t> labels;

  std::int64_t size() const { return static_cast<std::int64_t>(encodings.size()); }
};

}  // namespace sinter::train
