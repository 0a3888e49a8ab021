// Table lookups.
#pragma once

#include <memory>

#include "core/ops/dropout.h"
#include "core/tensor.h"

namespace sinter {

/// Rows of table [V, H]: ids i64 [...] -> [..., H]. The row `padding_idx` gets no gradient (-1: none such), as in
/// torch. Into a flat gradient that holds earlier micro-batches the rows are added one token after the other.
Tensor embedding(const Tensor& table, const Tensor& ids, std::int64_t padding_idx = -1);

/// BERT's embedding layer over packed tokens, in one pass:
/// dropout(LayerNorm((word[ids] + type[type_ids]) + position[position_ids])).
/// ids, type_ids, position_ids i64 [T]; tables [V, H], [types, H], [positions, H]; gamma, beta [H] -> [T, H].
struct EmbeddingTables {
  Tensor word, type, position;
};
Tensor embedding_layer_norm(const EmbeddingTables& tables, const Tensor& ids, const Tensor& type_ids,
                            const Tensor& position_ids, const Tensor& gamma, const Tensor& beta, double eps, double p,
                            std::uint32_t site, const std::shared_ptr<const Packing>& packing = nullptr,
                            std::int64_t padding_idx = -1);

}  // namespace sinter
