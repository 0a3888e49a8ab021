#include "kernels/embedding.h"

#include "kernels/base/families.h"
#include "kernels/ref/dropout_decision.h"
#include "kernels/ref/element.h"
#include "kernels/ref/layer_norm_rows.h"

namespace sinter::kernels::ref {
namespace {

template <class P>
Status check_dtype(const P& p) {
  const Status floating = check_floating(p.dtype);
  return floating.ok() ? check(p) : floating;
}

template <class P>
Status check_indices(const P& p) {
  const auto outside = [](std::int64_t index, std::int64_t size) { return index < 0 || index >= size; };
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    if (outside(p.ids[t], p.vocab)) return invalid("ids: every index must lie in [0, vocab)");
    if (outside(p.type_ids[t], p.types)) return invalid("type_ids: every index must lie in [0, types)");
    if (outside(p.position_ids[t], p.positions)) return invalid("position_ids: every index must lie in [0, positions)");
  }
  return {};
}

Status run_forward(const EmbeddingLayerNorm& p, Stream) {
  if (const Status status = check_indices(p); !status.ok()) return status;
  void* z = p.z == nullptr ? p.y : p.z;
  const LayerNormRows rows{p.dtype, p.cols, p.eps, z, p.gamma, p.beta, p.y, p.mean, p.rstd};
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    for (std::int64_t c = 0; c < p.cols; ++c) {
      const double sum = load(p.dtype, p.word, p.ids[t] * p.cols + c) +
                         load(p.dtype, p.type, p.type_ids[t] * p.cols + c) +
                         load(p.dtype, p.position, p.position_ids[t] * p.cols + c);
      store(p.dtype, z, t * p.cols + c, sum);
    }
    layer_norm_row(rows, t);
    for (std::int64_t c = 0; c < p.cols; ++c) {
      const std::int64_t i = t * p.cols + c;
      store(p.dtype, p.y, i, load(p.dtype, p.y, i) * dropout_factor(p.dropout, p.map, p.cols, t, c));
    }
  }
  return {};
}

/// table[indices[t]] += the f64 sum of the dz rows of all tokens with that index. Null table: not asked for.
void accumulate(const EmbeddingLayerNormBackward& p, void* table, const std::int64_t* indices, std::int64_t skipped) {
  if (table == nullptr) return;
  for (std::int64_t t = 0; t < p.tokens; ++t) {
    bool first = indices[t] != skipped;
    for (std::int64_t earlier = 0; earlier < t; ++earlier) first = first && indices[earlier] != indices[t];
    if (!first) continue;
    for (std::int64_t c = 0; c < p.cols; ++c) {
      double sum = load(p.dtype, table, indices[t] * p.cols + c);
      for (std::int64_t later = t; later < p.tokens; ++later)
        if (indices[later] == indices[t]) sum += load(computed_dtype(p.dtype), p.workspace, later * p.cols + c);
      store(p.dtype, table, indices[t] * p.cols + c, sum);
    }
  }
}

Status run_backward(const EmbeddingLayerNormBackward& p, Stream) {
  if (const Status status = check_indices(p); !status.ok()) return status;
  const LayerNormRowsBackward backward{p.dtype, p.cols, p.z, p.mean, p.rstd, p.gamma};
  const auto dy = [&](std::int64_t t, std::int64_t c) {
    return load(p.dtype, p.dy, t * p.cols + c) * dropout_factor(p.dropout, p.map, p.cols, t, c);
  };
  for (std::int64_t t = 0; t < p.tokens; ++t)
    backward.row(
        t, [&](std::int64_t c) { return dy(t, c); },
        [&](std::int64_t c, double dz) { store(computed_dtype(p.dtype), p.workspace, t * p.cols + c, dz); });
  accumulate(p, p.dword, p.ids, p.padding_idx);
  accumulate(p, p.dtype_table, p.type_ids, -1);
  accumulate(p, p.dposition, p.position_ids, -1);
  if (p.dgamma == nullptr) return {};
  for (std::int64_t c = 0; c < p.cols; ++c) {
    double dgamma = 0, dbeta = 0;
    for (std::int64_t t = 0; t < p.tokens; ++t) {
      dgamma += dy(t, c) * backward.xhat(t, c);
      dbeta += dy(t, c);
    }
    store(computed_dtype(p.dtype), p.dgamma, c, dgamma);
    store(computed_dtype(p.dtype), p.dbeta, c, dbeta);
  }
  return {};
}

constexpr Variant forward_variants[] = {
    {"naive", "loops from the formula", "the oracle of the tests", erased_run<EmbeddingLayerNorm, run_forward>}};
constexpr Variant backward_variants[] = {{"naive", "loops from the formula", "the oracle of the tests",
                                          erased_run<EmbeddingLayerNormBackward, run_backward>}};
std::size_t workspace(const EmbeddingLayerNormBackward& p) {
  return static_cast<std::size_t>(p.tokens * p.cols) * size_of(computed_dtype(p.dtype));
}

constexpr KernelEntry entries[] = {
    entry<EmbeddingLayerNorm, check_dtype<EmbeddingLayerNorm>>(forward_variants),
    entry<EmbeddingLayerNormBackward, check_dtype<EmbeddingLayerNormBackward>, workspace>(backward_variants)};

}  // namespace

extern const Family embedding_family;
const Family embedding_family = family(entries);

}  // namespace sinter::kernels::ref
