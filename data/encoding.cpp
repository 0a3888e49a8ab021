#include "data/encoding.h"

namespace sinter::data {

Columns to_columns(std::span<const Encoding> encodings) {
  Lists ids, types, mask;
  for (const Encoding& encoding : encodings) {
    ids.push_back(encoding.ids);
    types.push_back(encoding.token_type_ids);
    mask.push_back(encoding.attention_mask);
  }
  return {{"input_ids", std::move(ids)}, {"token_type_ids", std::move(types)}, {"attention_mask", std::move(mask)}};
}

}  // namespace sinter::data
