#include "data/batch_encoding.h"

#include <utility>

namespace sinter::data {

BatchEncoding::operator Columns() const& { return BatchEncoding(*this); }

BatchEncoding::operator Columns() && {
  Columns columns;
  columns.emplace("input_ids", std::move(input_ids));
  const auto add = [&](const char* name, auto& column) {
    if (column) columns.emplace(name, *std::move(column));
  };
  add("token_type_ids", token_type_ids);
  add("attention_mask", attention_mask);
  add("special_tokens_mask", special_tokens_mask);
  add("offset_mapping", offset_mapping);
  add("length", length);
  return columns;
}

}  // namespace sinter::data
