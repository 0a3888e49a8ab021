// One tokenized sample.
#pragma once

#include <cstdint>
#include <vector>

namespace sinter::data {

/// The three vectors have the same length: the tokens of the sample with its special tokens, without padding.
struct Encoding {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> token_type_ids;   ///< 0 up to the first [SEP], 1 behind it
  std::vector<std::int32_t> attention_mask;   ///< 1 everywhere

  std::int64_t length() const { return static_cast<std::int64_t>(ids.size()); }
};

}  // namespace sinter::data
