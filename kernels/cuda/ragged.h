// A packed batch as a library wants it described that knows padded batches only: where each sequence's rows begin in
// each tensor, how long they are, and statistics with the heads last.
#pragma once

#include <cstdint>

#include "kernels/base/status.h"
#include "kernels/base/stream.h"

namespace sinter::kernels::cuda {

/// begins[t, b] = offsets[b] * stride[t];  lengths[b] = offsets[b + 1] - offsets[b]
/// for each tensor t. The tables may list more sequences than there are: those are empty and begin at the end.
struct RaggedTables {
  static constexpr int kMostTensors = 9;
  std::int64_t tokens = 0, sequences = 0, max_length = 0;
  std::int64_t listed = 0;                 ///< at least `sequences`
  const std::int32_t* offsets = nullptr;   ///< [sequences + 1], as kernels/attention.h demands them: checked
  int tensors = 0;
  std::int64_t stride[kMostTensors] = {};  ///< elements between tokens
  std::int64_t* begins = nullptr;          ///< [tensors, listed + 1]
  std::int32_t* lengths = nullptr;         ///< [listed]
};
Status write_ragged_tables(const RaggedTables& tables, Stream stream);

/// to[c, r] = from[r, c], both dense.
Status transpose_rows(const float* from, float* to, std::int64_t rows, std::int64_t cols, Stream stream);

}  // namespace sinter::kernels::cuda
