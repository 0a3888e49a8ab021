// Every operation, by name. A new op is one word here, its struct and `make_row` in core/ops/<family>.cpp, its samples
// in tests/ops/<family>.cpp, and its kernels.
#pragma once

#include <span>

#include "core/op.h"

namespace sinter {

#define SINTER_OPS(X)                                                                                             \
  /* elementwise */ X(neg) X(abs) X(exp) X(log) X(sqrt) X(rsqrt) X(reciprocal) X(sin) X(cos) X(tanh) X(erf)        \
  X(sigmoid) X(relu) X(add_scalar) X(mul_scalar) X(pow_scalar) X(logical_not)                                     \
  X(add) X(sub) X(mul) X(div) X(maximum) X(minimum) X(compare) X(logical) X(where)                                 \
  /* copy */ X(contiguous) X(cast) X(to_device)                                                                    \
  /* shape */ X(reshape) X(expand) X(permute) X(narrow) X(cat)                                                     \
  /* reduce */ X(sum) X(amax) X(amin) X(argmax)                                                                    \
  /* gather */ X(index_select) X(index_add) X(gather) X(scatter_add)                                               \
  /* matmul */ X(matmul) X(linear)                                                                                 \
  /* softmax */ X(softmax) X(log_softmax)                                                                          \
  /* layer_norm */ X(layer_norm) X(bias_dropout_residual_layer_norm)                                               \
  /* gelu */ X(bias_gelu)                                                                                          \
  /* dropout */ X(dropout)                                                                                         \
  /* embedding */ X(embedding) X(embedding_layer_norm)                                                             \
  /* attention */ X(attention)                                                                                     \
  /* cross_entropy */ X(cross_entropy)

#define SINTER_DECLARE_OP(op) extern const OpRow op##_op;
SINTER_OPS(SINTER_DECLARE_OP)
#undef SINTER_DECLARE_OP

/// All rows, in the order above.
std::span<const OpRow* const> all_ops();

/// The row called `name`; a usage error that lists the names where there is none.
const OpRow& find_op(const char* name);

}  // namespace sinter
