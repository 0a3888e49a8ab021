// Tables of products for tests.
#pragma once

#include "kernels/gemm_table.h"

namespace sinter::testing {

/// A choice whose every member differs from the default, and from those of another `number`.
inline kernels::GemmChoice gemm_choice(std::int64_t number) {
  kernels::GemmChoice choice;
  choice.problem = {.dtype = kernels::Dtype::bf16,
                    .transpose_a = true,
                    .transpose_b = number % 2 == 0,
                    .accumulate = number % 2 == 1,
                    .workspace = true,
                    .alignment_a = 16,
                    .alignment_b = 32,
                    .alignment_c = 64,
                    .alignment_bias = number % 2 == 1 ? 0 : 128,
                    .m = 10 + number,
                    .n = 20 + number,
                    .k = 30 + number,
                    .batch = 2,
                    .lda = 100 + number,
                    .ldb = 200 + number,
                    .ldc = 300 + number,
                    .batch_stride_a = 4000,
                    .batch_stride_b = 0,
                    .batch_stride_c = 6000};
  for (int i = 0; i < kernels::GemmChoice::kWords; ++i)
    choice.algorithm[i] = 0x9876'5432'10ab'cdefu * static_cast<std::uint64_t>(i + number);
  return choice;
}

}  // namespace sinter::testing
