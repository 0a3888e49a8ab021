// The part of cuBLASLt's C interface that sinter calls. The library is loaded at run time and its headers are not
// needed to build; where they are at hand, cublaslt.cpp compares the numbers here with them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sinter::kernels::cuda::lt {

using Answer = int;                                      ///< cublasStatus_t; 0 is success
inline constexpr Answer kSuccess = 0;

inline constexpr int kCompute32F = 68;                   ///< cublasComputeType_t: f32, without TF32
inline constexpr int kR32F = 0, kR16F = 2, kR16BF = 14;  ///< cudaDataType
inline constexpr std::int32_t kOpN = 0, kOpT = 1;        ///< cublasOperation_t

enum MatmulDescAttribute { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8, kBiasDataType = 26 };
inline constexpr std::uint32_t kEpilogueBias = 4;        ///< adds bias[row] to every column of D
enum MatrixLayoutAttribute { kBatchCount = 5, kStridedBatchOffset = 6 };
enum PreferenceAttribute {
  kMaxWorkspaceBytes = 1, kReductionSchemeMask = 3,
  kMinAlignmentA = 5, kMinAlignmentB = 6, kMinAlignmentC = 7, kMinAlignmentD = 8
};
/// The parts of a split K are added in f32, in the workspace, in a fixed order. None: K is not split.
inline constexpr std::uint32_t kReductionNone = 0, kReductionComputeType = 2;

enum AlgorithmAttribute { kReductionScheme = 3 };        ///< cublasLtMatmulAlgoConfigAttributes_t
enum AlgorithmDemand {                                   ///< cublasLtMatmulAlgoCapAttributes_t
  kDemandedAlignmentA = 16, kDemandedAlignmentB = 17, kDemandedAlignmentC = 18, kDemandedAlignmentD = 19
};

/// cublasLtMatmulAlgo_t. It may be written to a file and read again by the same release of the library.
struct Algorithm {
  std::uint64_t data[8];
};

struct HeuristicResult {
  Algorithm algorithm;
  std::size_t workspace_bytes;
  Answer state;
  float waves;
  int reserved[4];
};

using Handle = void*;
using MatmulDesc = void*;
using MatrixLayout = void*;                              ///< column-major
using Preference = void*;

/// The functions, by the names behind "cublasLt".
struct Functions {
  std::size_t (*GetVersion)();
  const char* (*GetStatusString)(Answer);
  Answer (*Create)(Handle*);
  Answer (*MatmulDescCreate)(MatmulDesc*, int compute_type, int scale_type);
  Answer (*MatmulDescSetAttribute)(MatmulDesc, MatmulDescAttribute, const void* value, std::size_t bytes);
  Answer (*MatrixLayoutCreate)(MatrixLayout*, int type, std::uint64_t rows, std::uint64_t cols, std::int64_t ld);
  Answer (*MatrixLayoutSetAttribute)(MatrixLayout, MatrixLayoutAttribute, const void* value, std::size_t bytes);
  Answer (*MatmulPreferenceCreate)(Preference*);
  Answer (*MatmulPreferenceSetAttribute)(Preference, PreferenceAttribute, const void* value, std::size_t bytes);
  Answer (*MatmulPreferenceDestroy)(Preference);
  Answer (*MatmulAlgoGetHeuristic)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d,
                                   Preference, int wanted, HeuristicResult* results, int* found);
  /// What an algorithm from elsewhere needs for this product, or why it cannot compute it.
  Answer (*MatmulAlgoCheck)(Handle, MatmulDesc, MatrixLayout a, MatrixLayout b, MatrixLayout c, MatrixLayout d,
                            const Algorithm*, HeuristicResult* result);
  Answer (*MatmulAlgoConfigGetAttribute)(const Algorithm*, AlgorithmAttribute, void* value, std::size_t bytes,
                                         std::size_t* written);
  Answer (*MatmulAlgoCapGetAttribute)(const Algorithm*, AlgorithmDemand, void* value, std::size_t bytes,
                                      std::size_t* written);
  /// D = alpha op(A) op(B) + beta C, with the epilogue.
  Answer (*Matmul)(Handle, MatmulDesc, const void* alpha, const void* a, MatrixLayout, const void* b, MatrixLayout,
                   const void* beta, const void* c, MatrixLayout, void* d, MatrixLayout, const Algorithm*,
                   void* workspace, std::size_t workspace_bytes, void* stream);
};

}  // namespace sinter::kernels::cuda::lt
