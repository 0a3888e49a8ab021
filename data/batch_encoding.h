// What the tokenizer makes of a batch of texts.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "data/column.h"

namespace sinter::data {

/// One list a text, under HF's names; a column that was not asked for is unset. All lists of a row have the same
/// length, offset_mapping twice that.
struct BatchEncoding {
  Lists input_ids;
  std::optional<Lists> token_type_ids;       ///< 0 up to the first [SEP], 1 behind it; 0 for padding
  std::optional<Lists> attention_mask;       ///< 1 for tokens, 0 for padding
  std::optional<Lists> special_tokens_mask;  ///< 1 for [CLS], [SEP] and [PAD] that the call added
  /// begin and end of each token, one behind the other: characters (code points) of the original text, of the pair's
  /// text in its part. (0, 0) for the tokens that the call added. An ill-formed byte sequence counts as one character.
  std::optional<Lists> offset_mapping;
  std::optional<std::vector<std::int64_t>> length;   ///< tokens of each row, padding included

  std::int64_t size() const { return input_ids.size(); }   ///< rows

  /// The columns that are set, for Dataset::map.
  operator Columns() const&;
  operator Columns() &&;
};

}  // namespace sinter::data
