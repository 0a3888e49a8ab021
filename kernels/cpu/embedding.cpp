#include "kernels/embedding.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/base/families.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/column_sum.h"
#include "kernels/cpu/dropout_rows.h"
#include "kernels/cpu/layer_norm_rows.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {
namespace {

/// Elements of one task of the forward.
constexpr std::int64_t kTaskElements = 8192;
/// Columns of one task of the tables' gradients.
constexpr std::int64_t kTaskColumns = 64;

template <class P>
Status check_indices(const P& p) {
  const auto inside = [&](const std::int64_t* indices, std::int64_t size) {
    bool all = true;
    for (std::int64_t t = 0; t < p.tokens; ++t)
      all &= static_cast<std::uint64_t>(indices[t]) < static_cast<std::uint64_t>(size);
    return all;
  };
  if (!inside(p.ids, p.vocab)) return invalid("ids: every index must lie in [0, vocab)");
  if (!inside(p.type_ids, p.types)) return invalid("type_ids: every index must lie in [0, types)");
  if (!inside(p.position_ids, p.positions)) return invalid("position_ids: every index must lie in [0, positions)");
  return {};
}

template <class T>
void sum_token(const EmbeddingLayerNorm& p, std::int64_t t, T* z) {
  const T* word = static_cast<const T*>(p.word) + p.ids[t] * p.cols;
  const T* type = static_cast<const T*>(p.type) + p.type_ids[t] * p.cols;
  const T* position = static_cast<const T*>(p.position) + p.position_ids[t] * p.cols;
  for_vectors<T>(0, p.cols, [&](std::int64_t c, auto lanes) {
    store(z + c, (load(word + c, lanes) + load(type + c, lanes)) + load(position + c, lanes), lanes);
  });
}

template <class T>
Status forward(const EmbeddingLayerNorm& p, Stream stream) {
  if (const Status status = check_indices(p); !status.ok() || p.tokens == 0) return status;
  const DropoutRows dropout(p.dropout, p.map, p.cols);
  auto* const y = static_cast<T*>(p.y);
  auto* const z = p.z == nullptr ? y : static_cast<T*>(p.z);
  const LayerNormRows<T> rows{p.cols, p.eps, z, static_cast<const T*>(p.gamma), static_cast<const T*>(p.beta),
                              y, static_cast<T*>(p.mean), static_cast<T*>(p.rstd)};
  const auto tokens = [&]<int R>(std::integral_constant<int, R>, std::int64_t first) {
    for (std::int64_t t = first; t < first + R; ++t) sum_token(p, t, z + t * p.cols);
    layer_norm_rows<R, Stores::cached>(rows, first);
    if (dropout.active()) drop_rows<R>(dropout, first, y, y, p.cols);
  };
  parallel_ranges(stream, p.tokens, std::max<std::int64_t>(1, kTaskElements / p.cols),
                  [&](std::int64_t begin, std::int64_t end) {
                    for_row_groups<kRowGroup<Stores::cached>>(begin, end, tokens);
                  });
  return {};
}

/// The tokens of each row of a table, ascending: first[row], and next[t] behind each; -1: no more.
struct TokensOfRows {
  const std::int64_t* indices;
  std::int32_t* first;   ///< [rows]
  std::int32_t* next;    ///< [tokens]

  TokensOfRows(const std::int64_t* of, std::int64_t tokens, std::int64_t rows, std::int32_t* memory)
      : indices(of), first(memory), next(memory + rows) {
    std::fill(first, first + rows, -1);
    for (std::int64_t t = tokens; t-- > 0;) {
      next[t] = first[indices[t]];
      first[indices[t]] = static_cast<std::int32_t>(t);
    }
  }
  static std::int64_t numbers(std::int64_t tokens, std::int64_t rows) { return rows + tokens; }
};

/// table[row] += the sum of the row's tokens, for the columns [begin, end), at most kTaskColumns; not for `skipped`.
template <class T>
void accumulate(const EmbeddingLayerNormBackward& p, const T* dz, const TokensOfRows& tokens, std::int64_t skipped,
                void* gradient, std::int64_t begin, std::int64_t end) {
  if (gradient == nullptr) return;
  alignas(64) T sum[kTaskColumns];
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    const std::int64_t index = tokens.indices[t];
    if (tokens.first[index] != t || index == skipped) continue;
    std::memcpy(sum, dz + t * p.cols + begin, static_cast<std::size_t>(end - begin) * sizeof(T));
    for (std::int64_t u = tokens.next[t]; u >= 0; u = tokens.next[u])
      for_vectors<T>(0, end - begin, [&](std::int64_t c, auto lanes) {
        store(sum + c, load(sum + c, lanes) + load(dz + u * p.cols + begin + c, lanes), lanes);
      });
    T* const row = static_cast<T*>(gradient) + index * p.cols + begin;
    for_vectors<T>(0, end - begin, [&](std::int64_t c, auto lanes) {
      store(row + c, load(row + c, lanes) + load(sum + c, lanes), lanes);
    });
  }
}

/// dz of the tokens of block b into the workspace, and the block's partial sums of dgamma and dbeta.
template <class T>
void backward_block(const EmbeddingLayerNormBackward& p, const DropoutRows& dropout, T* dz, T* partial,
                    std::int64_t b) {
  LayerNormGradient<T> gradient{p.cols,
                                static_cast<const T*>(p.dy),
                                static_cast<const T*>(p.z),
                                static_cast<const T*>(p.mean),
                                static_cast<const T*>(p.rstd),
                                static_cast<const T*>(p.gamma),
                                nullptr,
                                nullptr};
  if (p.dgamma != nullptr) {
    gradient.dgamma = partial + b * p.cols;
    gradient.dbeta = gradient.dgamma + column_blocks(p.tokens) * p.cols;
    std::memset(gradient.dgamma, 0, static_cast<std::size_t>(p.cols) * sizeof(T));
    std::memset(gradient.dbeta, 0, static_cast<std::size_t>(p.cols) * sizeof(T));
  }
  const std::int64_t begin = b * kColumnSumRows, end = std::min(p.tokens, begin + kColumnSumRows), cols = p.cols;
  const T* const dy = gradient.dy;
  if (dropout.active()) gradient.dy = dz;  // each vector is read before its place receives dz
  for_row_groups<kRowGroup<Stores::cached>>(begin, end, [&]<int R>(std::integral_constant<int, R>, std::int64_t t) {
    if (dropout.active()) drop_rows<R>(dropout, t, dy, dz, cols);
    T* const out = dz + t * cols;
    const auto sink = [out, cols](int i, std::int64_t c, auto lanes, Vec<T> value) {
      store(out + i * cols + c, value, lanes);
    };
    layer_norm_backward_rows<R>(gradient, t, true, sink);
  });
}

/// Tasks of the tables' gradients are ranges of columns: every row has one writer, and the load is even however often a
/// row occurs (all tokens share one or two rows of the type table).
template <class T>
Status backward(const EmbeddingLayerNormBackward& p, Stream stream) {
  if (const Status status = check_indices(p); !status.ok()) return status;
  const DropoutRows dropout(p.dropout, p.map, p.cols);
  const std::int64_t blocks = column_blocks(p.tokens);
  T* const dz = static_cast<T*>(p.workspace);
  T* const partial = dz + p.tokens * p.cols;
  parallel_tasks(stream, blocks, [&](std::int64_t b) { backward_block(p, dropout, dz, partial, b); });
  if (p.dgamma != nullptr) {
    add_column_blocks(stream, partial, blocks, p.cols, static_cast<T*>(p.dgamma));
    add_column_blocks(stream, partial + blocks * p.cols, blocks, p.cols, static_cast<T*>(p.dbeta));
  }
  auto* numbers = reinterpret_cast<std::int32_t*>(partial + 2 * blocks * p.cols);
  const auto tokens_of = [&](const std::int64_t* indices, std::int64_t rows) {
    auto* const memory = std::exchange(numbers, numbers + TokensOfRows::numbers(p.tokens, rows));
    return TokensOfRows(indices, p.tokens, rows, memory);
  };
  const TokensOfRows words = tokens_of(p.ids, p.vocab), types = tokens_of(p.type_ids, p.types),
                     positions = tokens_of(p.position_ids, p.positions);
  parallel_ranges(stream, p.cols, kTaskColumns, [&](std::int64_t begin, std::int64_t end) {
    accumulate(p, dz, words, p.padding_idx, p.dword, begin, end);
    accumulate(p, dz, types, -1, p.dtype_table, begin, end);
    accumulate(p, dz, positions, -1, p.dposition, begin, end);
  });
  return {};
}

Status run_forward(const EmbeddingLayerNorm& p, Stream stream) {
  return p.dtype == Dtype::f32 ? forward<float>(p, stream) : forward<double>(p, stream);
}
Status run_backward(const EmbeddingLayerNormBackward& p, Stream stream) {
  return p.dtype == Dtype::f32 ? backward<float>(p, stream) : backward<double>(p, stream);
}

template <class P>
Status check_cpu(const P& p) {
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64) return unsupported("embedding on the CPU takes f32 and f64");
  return check(p);
}

std::size_t backward_workspace(const EmbeddingLayerNormBackward& p) {
  std::int64_t numbers = 0;
  for (const std::int64_t rows : {p.vocab, p.types, p.positions}) numbers += TokensOfRows::numbers(p.tokens, rows);
  return static_cast<std::size_t>((p.tokens + 2 * column_blocks(p.tokens)) * p.cols) * size_of(p.dtype) +
         static_cast<std::size_t>(numbers) * sizeof(std::int32_t);
}

constexpr Variant forward_variants[] = {{"fused_rows", "sum, normalisation and dropout while the row is in L1",
                                         "selected always", erased_run<EmbeddingLayerNorm, run_forward>}};
constexpr Variant backward_variants[] = {{"column_ranges", "tables' gradients by column ranges, row by row",
                                          "selected always", erased_run<EmbeddingLayerNormBackward, run_backward>}};
constexpr KernelEntry entries[] = {
    entry<EmbeddingLayerNorm, check_cpu<EmbeddingLayerNorm>>(forward_variants),
    entry<EmbeddingLayerNormBackward, check_cpu<EmbeddingLayerNormBackward>, backward_workspace>(backward_variants)};

}  // namespace

extern const Family embedding_family;
const Family embedding_family = family(entries);

}  // namespace sinter::kernels::cpu
