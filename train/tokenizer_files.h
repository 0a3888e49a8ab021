// The files of a tokenizer beside a model.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenizer.h"

namespace sinter::train {

/// Name and content of vocab.txt and tokenizer_config.json. `max_length` is tokenizer_config.json's model_max_length.
std::vector<std::pair<std::string, std::string>> tokenizer_files(const data::BertTokenizer& tokenizer,
                                                                 std::int64_t max_length);

}  // namespace sinter::train
