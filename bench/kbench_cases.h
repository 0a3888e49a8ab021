// The calls that kbench times: every kernel at the shapes of BERT-base.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "bench/kernel_case.h"

namespace sinter::bench {

/// Lengths of the model and of a batch.
struct Sizes {
  std::int64_t tokens = 32768, small_tokens = 4096, tiny_tokens = 228;   ///< the last: a step of SST-2 at batch 16
  std::int64_t hidden = 768, intermediate = 3072, heads = 12, vocab = 30522, positions = 512;
  std::int64_t sequence = 128, middle_sequence = 256, long_sequence = 512;
  std::int64_t parameters = 109'483'778;
};

/// Makes one case at a time: their memory would not fit together.
using MakeCase = std::function<std::unique_ptr<KernelCase>()>;
std::vector<MakeCase> kernel_cases(const Sizes& sizes);

}  // namespace sinter::bench
