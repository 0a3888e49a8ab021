// Matrix products by cuBLASLt, which is loaded at run time: where it is not installed, or has no algorithm for a
// product, the kernels of gemm.cu take it.
//
// The algorithm is the first that cuBLASLt's heuristic names, found once for each problem and kept, so a run repeats
// bit for bit on the same GPU with the same release; or that of an open table (kernels/gemm_table.h), whose choice
// follows times and so repeats only where the table is kept. Sums over K are in f32, without TF32; parts of a split K
// are added in f32, in the workspace and in a fixed order, and never in C, where each would be rounded to its dtype.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/gemm.h"
#include "kernels/gemm_table.h"

namespace sinter::kernels::cuda {

/// "" where the library can be used, else half a sentence: "there is no libcublasLt.so.13".
const char* why_no_cublaslt();

/// What gemm_by_cublaslt may use of params.workspace; with a null workspace it uses none, and may be slower.
inline constexpr std::size_t kCublasLtWorkspace = std::size_t{32} << 20;

/// True where gemm_by_cublaslt runs these params, given their pointers' alignment: f32, f16 or bf16 with k > 0. The
/// first question for a problem asks the heuristic, later ones a map.
///
/// The bias is f32, and cuBLASLt wants it in C's dtype. Where it has no algorithm that adds this bias (f16, bf16), the
/// copy kernel spreads the bias over C first and the product is added to it: the bias is then rounded to `dtype` before
/// the sum, which is formed in f32 and rounded as ever.
bool cublaslt_takes(const Gemm& p);

/// `unsupported` where cublaslt_takes is false.
Status gemm_by_cublaslt(const Gemm& p, Stream stream);

/// The row `own` with one more variant, "cublaslt", which is selected wherever it takes the params. Called once.
KernelEntry with_cublaslt(const KernelEntry& own);

/// The tables of the algorithms that were tuned; choices are cublasLtMatmulAlgo_t.
const GemmTuner& cublaslt_tuner();

/// "cuBLASLt 13.1.0"
std::string cublaslt_version();

}  // namespace sinter::kernels::cuda
