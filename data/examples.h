// A labelled text classification split in host memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace sinter::data {

/// sentence[i] carries label[i]; both vectors have the same length.
struct Examples {
  std::vector<std::string> sentence;
  std::vector<std::int64_t> label;

  std::int64_t size() const { return static_cast<std::int64_t>(sentence.size()); }
  /// The columns sentence and label, whose classes are "negative" and "positive".
  Dataset dataset() const {
    return Dataset({{"sentence", sentence}, {"label", label}}, {{"label", {{"negative", "positive"}}}});
  }
};

}  // namespace sinter::data
