// The rows that each kernel file gives to its backend's table. Included by kernel files and module.cpp only.
#pragma once

#include <cstddef>

#include "kernels/base/entry.h"

namespace sinter::kernels {

struct Family {
  const KernelEntry* entries = nullptr;
  int count = 0;
};

template <int N>
constexpr Family family(const KernelEntry (&entries)[N]) {
  return {entries, N};
}

/// Declares a Family for each <family>.cpp of a backend folder; used inside that backend's namespace.
#define SINTER_DECLARE_FAMILIES                                                                              \
  extern const Family copy_family, elementwise_family, reduce_family, gather_family, gemm_family,            \
      softmax_family, layer_norm_family, bias_gelu_family, dropout_family, embedding_family, attention_family, \
      cross_entropy_family, adamw_family, update_family, touched_rows_family, catch_up_rows_family

#define SINTER_ALL_FAMILIES                                                                                       \
  &copy_family, &elementwise_family, &reduce_family, &gather_family, &gemm_family, &softmax_family,               \
      &layer_norm_family, &bias_gelu_family, &dropout_family, &embedding_family, &attention_family,               \
      &cross_entropy_family, &adamw_family, &update_family, &touched_rows_family, &catch_up_rows_family

/// The rows of several families, one after the other. Filled once, at first use.
struct Table {
  KernelEntry rows[kKernelCount];
  std::size_t count = 0;

  template <int N>
  explicit Table(const Family* const (&families)[N]) : rows{} {
    for (const Family* family : families)
      for (int i = 0; i < family->count; ++i) rows[count++] = family->entries[i];
  }
};

}  // namespace sinter::kernels
