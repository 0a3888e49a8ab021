#include "kernels/base/kernel.h"

#include <immintrin.h>

namespace sinter::kernels {

const char* name(KernelId id) {
  static constexpr const char* names[] = {
      "copy", "fill",
      "unary", "binary", "where",
      "reduce", "arg_reduce",
      "index_select", "index_add", "gather", "scatter_add",
      "gemm",
      "softmax", "softmax_backward",
      "layer_norm", "layer_norm_backward",
      "bias_dropout_residual_layer_norm", "bias_dropout_residual_layer_norm_backward",
      "bias_gelu", "bias_gelu_backward",
      "dropout",
      "embedding_layer_norm", "embedding_layer_norm_backward",
      "attention", "attention_backward",
      "cross_entropy", "cross_entropy_backward",
      "squared_norm", "adamw",
      "accumulate_loss", "prepare_update",
      "mark_rows", "zero_rows", "catch_up_rows",
  };
  static_assert(sizeof(names) / sizeof(names[0]) == kKernelCount, "one name for each KernelId");
  return names[static_cast<int>(id)];
}

const KernelEntry* find(const BackendModule& module, KernelId id) {
  for (std::size_t i = 0; i < module.entry_count; ++i)
    if (module.entries[i].id == id) return &module.entries[i];
  return nullptr;
}

Status run(const BackendModule& module, KernelId id, std::size_t params_size, const void* params, Stream stream,
           int variant) {
  const KernelEntry* entry = find(module, id);
  if (entry == nullptr) return unsupported("this backend has no such kernel");
  if (entry->params_size != params_size)
    return invalid("the params struct was built from another version of its header");
  if (const Status status = entry->supports(params); !status.ok()) return status;
  if (variant < 0) variant = entry->select(params);
  if (variant >= entry->variant_count) return invalid("no variant with this number");
  const FlushDenormals flush;
  return entry->variants[variant].run(params, stream);
}

namespace {
constexpr unsigned kFlushToZero = 0x8000u;
constexpr unsigned kDenormalsAreZero = 0x0040u;
}  // namespace

FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero); }
FlushDenormals::~FlushDenormals() { _mm_setcsr(saved_); }

}  // namespace sinter::kernels
