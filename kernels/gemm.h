// Matrix products: the one seam through which every linear layer, attention fallback and batched matmul goes.
#pragma once

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"

namespace sinter::kernels {

/// C[b] = op(A[b]) op(B[b]) + bias   (accumulate = false)
/// C[b] += op(A[b]) op(B[b])         (accumulate = true: the whole product is formed first, then added once)
///
/// op(A) is M x K, op(B) is K x N, C is M x N, all row-major with leading dimensions (elements between rows):
///   transpose_a = false: A is stored [M, K], lda >= K;   true: A is stored [K, M], lda >= M
///   transpose_b = false: B is stored [K, N], ldb >= N;   true: B is stored [N, K], ldb >= K
/// A linear layer is    forward  Y = X W^T + b   (transpose_b),
///                      input    dX = dY W,
///                      weight   dW (+)= dY^T X  (transpose_a; the long dimension is K = tokens).
/// `bias` [N] is added to every row; it cannot be combined with accumulate.
/// K = 0 gives zeros (plus bias). M, N or batch of 0 do nothing. C must not overlap A, B or bias.
///
/// dtypes: A, B and C have `dtype`, bias has computed_dtype(dtype). CPU: f32, f64. CUDA: every floating one.
/// Accumulation, bias and the sum with C in f32 (f64 for f64), rounded to `dtype` once. cuBLASLt takes the bias of f16
/// and bf16 rounded to `dtype`.
/// Deterministic. The bits of a row of C depend on neither M, the batch, nor the number of threads (CPU).
/// Bytes: each operand once. FLOPs: 2 M N K batch.
struct Gemm {
  static constexpr KernelId id = KernelId::gemm;
  Dtype dtype = Dtype::f32;
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t batch = 1;
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;
  const void* bias = nullptr;
  std::int64_t lda = 0, ldb = 0, ldc = 0;
  std::int64_t batch_stride_a = 0, batch_stride_b = 0, batch_stride_c = 0;  ///< elements between matrices of the batch
  void* workspace = nullptr;   ///< CUDA: find(module, id)->workspace(&params) bytes, up to 32 MiB
};

constexpr Status check(const Gemm& p) {
  if (p.m < 0 || p.n < 0 || p.k < 0 || p.batch < 0) return invalid("m, n, k and batch must not be negative");
  if (p.lda < (p.transpose_a ? p.m : p.k)) return invalid("lda is smaller than a row of A");
  if (p.ldb < (p.transpose_b ? p.k : p.n)) return invalid("ldb is smaller than a row of B");
  if (p.ldc < p.n) return invalid("ldc is smaller than a row of C");
  if (p.bias != nullptr && p.accumulate) return invalid("bias cannot be combined with accumulate");
  return {};
}

constexpr Cost cost(const Gemm& p) {
  const double size = static_cast<double>(size_of(p.dtype)) * static_cast<double>(p.batch);
  const double m = static_cast<double>(p.m), n = static_cast<double>(p.n), k = static_cast<double>(p.k);
  const double read = size * (m * k + k * n + (p.accumulate ? m * n : 0));
  return {read, size * m * n, 2 * m * n * k * static_cast<double>(p.batch)};
}

}  // namespace sinter::kernels
