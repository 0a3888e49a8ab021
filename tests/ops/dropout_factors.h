// Dropout's factors from the definition of the masks (kernels/base/philox.h), for the references of the samples.
#pragma once

#include <cstdint>

#include "core/ops/packing.h"
#include "core/random.h"

namespace sinter::testing {

/// The step that every sample with dropout runs in: StepScope(kSeed, kStep, kFirstSample).
inline constexpr std::uint64_t kSeed = 0x1234567890abcdefull;
inline constexpr std::uint32_t kStep = 17, kFirstSample = 5;

/// 0 or 1 / (1 - p) for an element of a sample of the batch, at a site.
double dropout_factor(double p, std::uint32_t site, std::int64_t sample, std::uint64_t element);

/// The factor of element (row, col) of a [rows, cols] tensor; `packing` may be null: a row is a sample.
double row_dropout_factor(double p, std::uint32_t site, const Packing* packing, std::int64_t row, std::int64_t col,
                          std::int64_t cols);

}  // namespace sinter::testing
