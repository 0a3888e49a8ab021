// Slices have borders fixed by the shape, so that the bits do not depend on the number of threads. Eigen allocates its
// own packing buffers.
#include <Eigen/Core>
#include <algorithm>

#include "kernels/cpu/gemm_variants.h"

namespace sinter::kernels::cpu {
namespace {

using Eigen::Index;
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using View = Eigen::Map<const Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;
template <class T>
using MutableView = Eigen::Map<Matrix<T>, Eigen::Unaligned, Eigen::OuterStride<>>;

// A block whose product is formed in the thread's own memory before it is added to C.
constexpr Index kBlockRows = 64;
constexpr Index kBlockColumns = 256;
alignas(64) thread_local double block_product[kBlockRows * kBlockColumns];

struct Block {
  std::int64_t row, rows, column, columns;
};

template <class T>
void multiply(const Gemm& p, const T* a, const T* b, Block s, MutableView<T> out) {
  const View<T> left(a + (p.transpose_a ? s.row : s.row * p.lda), p.transpose_a ? p.k : s.rows,
                     p.transpose_a ? s.rows : p.k, Eigen::OuterStride<>(p.lda));
  const View<T> right(b + (p.transpose_b ? s.column * p.ldb : s.column), p.transpose_b ? s.columns : p.k,
                      p.transpose_b ? p.k : s.columns, Eigen::OuterStride<>(p.ldb));
  if (p.transpose_a && p.transpose_b)
    out.noalias() = left.transpose() * right.transpose();
  else if (p.transpose_a)
    out.noalias() = left.transpose() * right;
  else if (p.transpose_b)
    out.noalias() = left * right.transpose();
  else
    out.noalias() = left * right;
}

template <class T>
void slice(const Gemm& p, std::int64_t matrix, Block s) {
  const T* a = static_cast<const T*>(p.a) + matrix * p.batch_stride_a;
  const T* b = static_cast<const T*>(p.b) + matrix * p.batch_stride_b;
  T* c = static_cast<T*>(p.c) + matrix * p.batch_stride_c + s.row * p.ldc + s.column;
  if (p.accumulate) {
    const MutableView<T> product(reinterpret_cast<T*>(block_product), s.rows, s.columns,
                                 Eigen::OuterStride<>(kBlockColumns));
    multiply<T>(p, a, b, s, product);
    MutableView<T>(c, s.rows, s.columns, Eigen::OuterStride<>(p.ldc)) += product;
    return;
  }
  const MutableView<T> out(c, s.rows, s.columns, Eigen::OuterStride<>(p.ldc));
  multiply<T>(p, a, b, s, out);
  if (p.bias == nullptr) return;
  const T* bias = static_cast<const T*>(p.bias) + s.column;
  for (std::int64_t i = 0; i < s.rows; ++i)
    for (std::int64_t j = 0; j < s.columns; ++j) c[i * p.ldc + j] += bias[j];
}

template <class T>
Status run_typed(const Gemm& p, Stream stream) {
  // Eigen derives its blocking, and with it the order of its sums, from the caches that it finds: fix them.
  [[maybe_unused]] static const bool fixed = (Eigen::setCpuCacheSizes(32 << 10, 1 << 20, 16 << 20), true);
  // Four slices of the longer side feed four threads and keep most of Eigen's reuse.
  const bool by_rows = p.m >= p.n;
  const std::int64_t quarter = std::max<std::int64_t>(48, (std::max(p.m, p.n) + 3) / 4);
  const std::int64_t rows = p.accumulate ? kBlockRows : by_rows ? quarter : p.m;
  const std::int64_t columns = p.accumulate ? kBlockColumns : by_rows ? p.n : quarter;
  const std::int64_t row_slices = (p.m + rows - 1) / rows, column_slices = (p.n + columns - 1) / columns;
  parallel_tasks(stream, p.batch * row_slices * column_slices, [&](std::int64_t task) {
    const std::int64_t column = task % column_slices * columns, row = task / column_slices % row_slices * rows;
    const Block s = {row, std::min(rows, p.m - row), column, std::min(columns, p.n - column)};
    slice<T>(p, task / (column_slices * row_slices), s);
  });
  return {};
}

}  // namespace

Status run_gemm_eigen(const Gemm& p, Stream stream) {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return {};
  return p.dtype == Dtype::f64 ? run_typed<double>(p, stream) : run_typed<float>(p, stream);
}

}  // namespace sinter::kernels::cpu
