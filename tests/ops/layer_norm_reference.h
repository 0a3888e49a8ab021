// LayerNorm by plain loops, for the samples of layer_norm and embedding.
#pragma once

#include "tests/ops/host_array.h"

namespace sinter::testing {

/// (z - mean) / sqrt(variance + eps) * gamma + beta over the last dimension.
HostArray normalised_rows(const HostArray& z, const HostArray& gamma, const HostArray& beta, double eps);

}  // namespace sinter::testing
