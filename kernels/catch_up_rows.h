// AdamW for a table of whose rows a step touches few: the others are updated when somebody needs them, to the same
// bits.
//
// A row without a gradient still decays, and moves by its momentum. These updates need nothing but the row itself and
// the coefficients of each step, so AdamW leaves such a row alone (DeferredRows), and CatchUpRows replays the missed
// steps in registers, one after the other with the operations that AdamW would have used.
#pragma once

#include "kernels/adamw.h"

namespace sinter::kernels {

/// Rows of a table [rows, cols] take the steps current[row] + 1 .. step[0] of AdamW with a gradient of zero, and
/// current[row] = step[0]. Which rows: ids i64 [n], in any order, repeated or not; null: all of them.
///
/// history holds the coefficients of step s at [(s % history_size) * history_stride], for every step that a row misses;
/// none lags by more than history_size. In computed_dtype decay and step_size are finite there, and step_size not
/// negative. param, exp_avg, exp_avg_sq [rows, cols] have `dtype` and point to the table; `low` (null: none) is the
/// rounded copy of param. The bits are those of AdamW called for every step; what has become zero, as the momentum some
/// 800 steps after the last gradient, is no longer computed.
///
/// The CPU takes f32 and f64, CUDA all four. For an id outside [0, rows), or a row whose lag is negative or longer than
/// the history, the CPU answers invalid_argument before anything is written; on CUDA the kernel stops itself.
struct CatchUpRows {
  static constexpr KernelId id = KernelId::catch_up_rows;
  Dtype dtype = Dtype::f32;
  std::int64_t rows = 0, cols = 0, n = 0;
  const std::int64_t* ids = nullptr;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  const AdamWCoefficients* history = nullptr;
  std::int64_t history_size = 0, history_stride = 1;
  const std::int64_t* step = nullptr;
  std::int64_t* current = nullptr;
  void* param = nullptr;
  void* exp_avg = nullptr;
  void* exp_avg_sq = nullptr;
  void* low = nullptr;
  Dtype low_dtype = Dtype::bf16;   ///< f16 or bf16
};

constexpr Status check(const CatchUpRows& p) {
  if (p.rows < 0 || p.cols < 0 || p.n < 0) return invalid("a size must not be negative");
  if (p.history_size < 1 || p.history_stride < 1) return invalid("the history must hold at least one step");
  if (p.low != nullptr && p.low_dtype != Dtype::f16 && p.low_dtype != Dtype::bf16)
    return invalid("the low-precision copy must be f16 or bf16");
  return {};
}

/// Of one missed step of each row: how many there are is not known here.
constexpr Cost cost(const CatchUpRows& p) {
  const double count = static_cast<double>((p.ids == nullptr ? p.rows : p.n) * p.cols);
  const double size = static_cast<double>(size_of(p.dtype));
  return {3 * count * size, count * (3 * size + (p.low != nullptr ? 2 : 0)), 12 * count};
}

}  // namespace sinter::kernels
