// The fastest of the algorithms that cuBLASLt proposes for a product, found by trying them on the device.
#pragma once

#include "kernels/cuda/cublaslt_plans.h"

namespace sinter::kernels::cuda::lt {

/// As many algorithms are tried for one product, the heuristic's first among them.
inline constexpr int kMostProposals = 32;

/// Tries every proposal on copies of p's operands, enough of them that none is in the device's cache when its turn
/// comes (up to 64), with C as scratch; p's own memory is only read. The shortest median wins, of equal ones the
/// earlier. A proposal that fails is passed over. The host waits for the stream.
///
/// Nothing where it could not be tried: there is no memory for copies, or no proposal ran.
std::optional<Choice> fastest(int device, Handle handle, const GemmProblem& problem, const Plan& plan, const Gemm& p,
                              Stream stream);

}  // namespace sinter::kernels::cuda::lt
