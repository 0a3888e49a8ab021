// Tuned matrix products: what a program may ask of a backend that chooses among a vendor's algorithms. A library that
// has it exports `extern "C" const GemmTuner* sinter_gemm_tuner()` beside its module.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/status.h"

namespace sinter::kernels {

/// All that the choice of an algorithm depends on beside the library's version and the GPU: a Gemm (kernels/gemm.h)
/// whose pointers are reduced to their alignment, the largest power of two up to 256 that divides the address.
struct GemmProblem {
  Dtype dtype = Dtype::f32;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  bool workspace = false;                 ///< params.workspace is not null
  std::int32_t alignment_a = 256, alignment_b = 256, alignment_c = 256;
  std::int32_t alignment_bias = 0;        ///< 0: there is no bias
  std::int64_t m = 0, n = 0, k = 0, batch = 1;
  std::int64_t lda = 0, ldb = 0, ldc = 0;
  std::int64_t batch_stride_a = 0, batch_stride_b = 0, batch_stride_c = 0;

  auto operator<=>(const GemmProblem&) const = default;
};

/// One entry of a table: the library's own words for an algorithm, which mean something to the same release on the same
/// GPU only.
struct GemmChoice {
  static constexpr int kWords = 8;
  GemmProblem problem;
  std::uint64_t algorithm[kWords] = {};

  bool operator==(const GemmChoice&) const = default;
};

/// A table for each device of the backend. While it is closed, every product takes the algorithm that the library's
/// heuristic names first. While it is open, a product that stands in it takes the algorithm that stands there; while
/// it records, a product that is met for the first time is tuned: algorithms that the library proposes are timed, and
/// the fastest enters the table. A product that cannot be timed (its stream is captured, there is no memory for copies
/// of its operands) enters it with the heuristic's, so that it keeps its bits too. Threads may call at the same time.
struct GemmTuner {
  std::uint32_t abi;                                         ///< kGemmTunerAbi
  const char* (*why_none)();                                 ///< "" where products can be tuned, else half a sentence
  const char* (*library)();                                  ///< "cuBLASLt 13.1.0"
  const char* (*gpu)(int device);                            ///< name and all else that the choice depends on
  void (*open)(int device);                                  ///< the table is empty then, and records nothing
  void (*close)(int device);
  void (*record)(int device, bool on);                       ///< of an open table
  /// Puts a choice into the open table, in the place of one for the same problem. invalid_argument or unsupported, with
  /// the rule, where the library refuses the algorithm for this problem, or it could give other bits from run to run.
  Status (*add)(int device, const GemmChoice& choice);
  /// Writes up to `capacity` choices, sorted by problem; gives how many there are.
  std::size_t (*choices)(int device, GemmChoice* out, std::size_t capacity);
  std::size_t (*not_timed)(int device);                      ///< how many entered since `open` and were not timed
};

inline constexpr std::uint32_t kGemmTunerAbi = 1;

/// A table takes no more than this; products met later take the heuristic's algorithm.
inline constexpr std::size_t kMostGemmChoices = 16384;

}  // namespace sinter::kernels
