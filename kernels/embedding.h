// BERT's embedding layer: three table rows summed, normalised and dropped out in one pass, and its backward.
// A plain embedding lookup is IndexSelect, its backward IndexAdd (gather.h).
//
// Matrices (tables and their gradients too) are of `dtype`; vectors (gamma, beta, mean, rstd, dgamma, dbeta) of
// computed_dtype(dtype). The CPU computes f32 and f64, CUDA all four. For an index out of range the CPU answers
// invalid_argument before anything is written; on CUDA the kernel stops itself.
#pragma once

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"
#include "kernels/base/philox.h"
#include "kernels/layer_norm.h"

namespace sinter::kernels {

/// z = (word[ids[t]] + type[type_ids[t]]) + position[position_ids[t]]   (summed in this order, rounded to dtype)
/// y = dropout(LayerNorm(z))
/// ids, type_ids, position_ids i64 [tokens]; tables [vocab, cols], [types, cols], [positions, cols]; z, y [tokens,
/// cols]; mean, rstd [tokens]. z is an output kept for the backward; null z, mean, rstd: not kept.
struct EmbeddingLayerNorm {
  static constexpr KernelId id = KernelId::embedding_layer_norm;
  Dtype dtype = Dtype::f32;
  std::int64_t tokens = 0, cols = 0;
  std::int64_t vocab = 0, types = 0, positions = 0;
  double eps = 1e-12;
  Dropout16 dropout;
  RowMap map;
  const std::int64_t* ids = nullptr;
  const std::int64_t* type_ids = nullptr;
  const std::int64_t* position_ids = nullptr;
  const void* word = nullptr;
  const void* type = nullptr;
  const void* position = nullptr;
  const void* gamma = nullptr;
  const void* beta = nullptr;
  void* z = nullptr;
  void* y = nullptr;
  void* mean = nullptr;
  void* rstd = nullptr;
};

/// dz from dropout's and LayerNorm's backward, then for each table row the sum of its tokens' dz:
/// dword[ids[t]] += dz[t] (not for ids[t] == padding_idx), dtype[...] += dz[t], dposition[...] += dz[t].
/// The table gradients accumulate (+=) into zeroed or earlier sums, and rows without tokens are not touched;
/// dgamma, dbeta overwrite (null: both not computed). A null table gradient is not computed. Sums are kept in
/// computed_dtype(dtype) and rounded once. A row adds its tokens in ascending order, and their sum to what it holds, as
/// if that were another call's; but on CUDA a table of at most 8 rows adds those of each 64 tokens, then these sums in a
/// fixed tree, then what the row holds. workspace: (tokens + 2 * ceil(tokens / 64)) * cols elements of
/// computed_dtype(dtype); on CUDA 2 grows by the rows of each table of at most 8; on the CPU vocab + types + positions
/// + 3 * tokens i32 come on top.
struct EmbeddingLayerNormBackward {
  static constexpr KernelId id = KernelId::embedding_layer_norm_backward;
  Dtype dtype = Dtype::f32;
  std::int64_t tokens = 0, cols = 0;
  std::int64_t vocab = 0, types = 0, positions = 0;
  std::int64_t padding_idx = -1;    ///< row of the word table that gets no gradient; -1: none
  Dropout16 dropout;
  RowMap map;
  const std::int64_t* ids = nullptr;
  const std::int64_t* type_ids = nullptr;
  const std::int64_t* position_ids = nullptr;
  const void* dy = nullptr;
  const void* z = nullptr;
  const void* mean = nullptr;
  const void* rstd = nullptr;
  const void* gamma = nullptr;
  void* dword = nullptr;
  void* dtype_table = nullptr;
  void* dposition = nullptr;
  void* dgamma = nullptr;
  void* dbeta = nullptr;
  void* workspace = nullptr;
};

constexpr Status check(const EmbeddingLayerNorm& p) {
  if (p.dropout.active() && p.dropout.step == nullptr) return invalid("dropout needs the global step");
  return check_rows_cols(p.tokens, p.cols);
}
constexpr Status check(const EmbeddingLayerNormBackward& p) {
  if ((p.dgamma == nullptr) != (p.dbeta == nullptr)) return invalid("dgamma and dbeta: give both or neither");
  if (p.dropout.active() && p.dropout.step == nullptr) return invalid("dropout needs the global step");
  return check_rows_cols(p.tokens, p.cols);
}

constexpr Cost cost(const EmbeddingLayerNorm& p) {
  const double n = static_cast<double>(p.tokens * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {n * size * 3 + static_cast<double>(p.tokens) * 24, 2 * n * size, 11 * n};
}
constexpr Cost cost(const EmbeddingLayerNormBackward& p) {
  const double n = static_cast<double>(p.tokens * p.cols), size = static_cast<double>(size_of(p.dtype));
  return {n * size * 5 + static_cast<double>(p.tokens) * 24, n * size * 3, 18 * n};
}

}  // namespace sinter::kernels
