#include "kernels/layer_norm.h"

#include "kernels/base/families.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/column_sum.h"
#include "kernels/cpu/dropout_rows.h"
#include "kernels/cpu/layer_norm_rows.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {
namespace {

/// Elements of one task of a forward: enough to pay for handing it out, few enough for small buffers to be shared.
constexpr std::int64_t kTaskElements = 16384;

std::int64_t rows_per_task(std::int64_t cols) { return std::max<std::int64_t>(1, kTaskElements / cols); }

template <class T>
T* pointer(void* base) {
  return static_cast<T*>(base);
}
template <class T>
const T* pointer(const void* base) {
  return static_cast<const T*>(base);
}

template <class T>
Status forward(const LayerNorm& p, Stream stream) {
  if (p.rows == 0) return {};
  const LayerNormRows<T> rows{p.cols, p.eps, pointer<T>(p.x), pointer<T>(p.gamma), pointer<T>(p.beta),
                              pointer<T>(p.y), pointer<T>(p.mean), pointer<T>(p.rstd)};
  with_stores(stores_for<T>(p.y, {p.x}, p.rows, p.cols), [&]<Stores S>(StoresTag<S>) {
    parallel_ranges(stream, p.rows, rows_per_task(p.cols), [&](std::int64_t begin, std::int64_t end) {
      for_row_groups<kRowGroup<S>>(begin, end, [&]<int R>(std::integral_constant<int, R>, std::int64_t r) {
        layer_norm_rows<R, S>(rows, r);
      });
      finish_stores<S>();
    });
  });
  return {};
}

/// Partial column sums of block b of quantity k, of `quantities` whose partials stand one after the other.
template <class T>
T* partial_sums(void* workspace, std::int64_t k, std::int64_t b, std::int64_t rows, std::int64_t cols) {
  return static_cast<T*>(workspace) + (k * column_blocks(rows) + b) * cols;
}

template <class T>
void clear(T* values, std::int64_t n) {
  std::memset(values, 0, static_cast<std::size_t>(n) * sizeof(T));
}

/// Block b of rows: dx unless it is null, and the block's terms of dgamma and dbeta if they are asked for.
template <Stores S, class T>
void block_backward(const LayerNormBackward& p, std::int64_t b) {
  const std::int64_t cols = p.cols;
  T* const dx = pointer<T>(p.dx);
  LayerNormGradient<T> gradient{p.cols, pointer<T>(p.dy), pointer<T>(p.x), pointer<T>(p.mean),
                                pointer<T>(p.rstd), pointer<T>(p.gamma), nullptr, nullptr};
  if (p.dgamma != nullptr) {
    gradient.dgamma = partial_sums<T>(p.workspace, 0, b, p.rows, p.cols);
    gradient.dbeta = partial_sums<T>(p.workspace, 1, b, p.rows, p.cols);
    clear(gradient.dgamma, p.cols);
    clear(gradient.dbeta, p.cols);
  }
  const auto rows = [&]<int R>(std::integral_constant<int, R>, std::int64_t r) {
    T* const out = dx + r * cols;
    const auto sink = [out, cols](int i, std::int64_t c, auto lanes, Vec<T> dz) {
      store<S>(out + i * cols + c, dz, lanes);
    };
    layer_norm_backward_rows<R>(gradient, r, dx != nullptr, sink);
  };
  for_row_groups<kRowGroup<S>>(b * kColumnSumRows, std::min(p.rows, (b + 1) * kColumnSumRows), rows);
  finish_stores<S>();
}

template <class T>
Status backward(const LayerNormBackward& p, Stream stream) {
  const std::int64_t blocks = column_blocks(p.rows);
  with_stores(stores_for<T>(p.dx, {p.dy, p.x}, p.rows, p.cols), [&]<Stores S>(StoresTag<S>) {
    parallel_tasks(stream, blocks, [&](std::int64_t b) { block_backward<S, T>(p, b); });
  });
  if (p.dgamma == nullptr) return {};
  add_column_blocks(stream, partial_sums<T>(p.workspace, 0, 0, p.rows, p.cols), blocks, p.cols,
                    static_cast<T*>(p.dgamma));
  add_column_blocks(stream, partial_sums<T>(p.workspace, 1, 0, p.rows, p.cols), blocks, p.cols,
                    static_cast<T*>(p.dbeta));
  return {};
}

/// z = dropout(x + bias) + residual for rows r .. r + R - 1.
template <int R, class T>
void residual_rows(const BiasDropoutResidualLayerNorm& p, const DropoutRows& dropout, std::int64_t r, T* z) {
  const std::int64_t cols = p.cols;
  const T* const bias = pointer<T>(p.bias);
  const T *const x = pointer<T>(p.x) + r * cols, *const residual = pointer<T>(p.residual) + r * cols;
  const auto biased = [&](std::int64_t i, std::int64_t c, auto lanes) {
    const Vec<T> value = load(x + i * cols + c, lanes);
    return bias == nullptr ? value : value + load(bias + c, lanes);
  };
  z += r * cols;
  if (!dropout.active()) {
    for (std::int64_t i = 0; i < R; ++i)
      for_vectors<T>(0, cols, [&](std::int64_t c, auto lanes) {
        store(z + i * cols + c, biased(i, c, lanes) + load(residual + i * cols + c, lanes), lanes);
      });
    return;
  }
  const Vec<T> scale = Vec<T>::all(dropout.scale<T>());
  for_dropout_chunks<R>(dropout, r, cols, [&](int i, std::int64_t begin, std::int64_t end, const KeepBits& bits) {
    for_vectors<T>(begin, end, [&](std::int64_t c, auto lanes) {
      const Vec<T> kept = biased(i, c, lanes).keep(bits.at(c - begin));
      store(z + i * cols + c, fma(kept, scale, load(residual + i * cols + c, lanes)), lanes);
    });
  });
}

template <class T>
Status residual_forward(const BiasDropoutResidualLayerNorm& p, Stream stream) {
  if (p.rows == 0) return {};
  const DropoutRows dropout(p.dropout, p.map, p.cols);
  T* const z = pointer<T>(p.z == nullptr ? p.y : p.z);
  const LayerNormRows<T> rows{p.cols, p.eps, z, pointer<T>(p.gamma), pointer<T>(p.beta),
                              pointer<T>(p.y), pointer<T>(p.mean), pointer<T>(p.rstd)};
  with_stores(stores_for<T>(p.y, {z, p.x, p.residual}, p.rows, p.cols), [&]<Stores S>(StoresTag<S>) {
    parallel_ranges(stream, p.rows, rows_per_task(p.cols), [&](std::int64_t begin, std::int64_t end) {
      for_row_groups<kRowGroup<S>>(begin, end, [&]<int R>(std::integral_constant<int, R>, std::int64_t r) {
        residual_rows<R>(p, dropout, r, z);
        layer_norm_rows<R, S>(rows, r);
      });
      finish_stores<S>();
    });
  });
  return {};
}

/// dbias += value at column c, unless it is null.
template <class T, class Lanes>
void add_to(T* dbias, std::int64_t c, Vec<T> value, Lanes lanes) {
  if (dbias != nullptr) store(dbias + c, load(dbias + c, lanes) + value, lanes);
}

/// dx = dropout'(dz) for rows r .. r + R - 1, and their terms of dbias.
template <int R, class T>
void drop_rows_backward(const DropoutRows& dropout, std::int64_t r, std::int64_t cols, const T* dz, T* dx, T* dbias) {
  const Vec<T> scale = Vec<T>::all(dropout.scale<T>());
  for_dropout_chunks<R>(dropout, r, cols, [&](int i, std::int64_t begin, std::int64_t end, const KeepBits& bits) {
    const T* const from = dz + (r + i) * cols;
    T* const to = dx + (r + i) * cols;
    for_vectors<T>(begin, end, [&](std::int64_t c, auto lanes) {
      const Vec<T> value = (load(from + c, lanes) * scale).keep(bits.at(c - begin));
      store(to + c, value, lanes);
      add_to(dbias, c, value, lanes);
    });
  });
}

template <class T>
void residual_block_backward(const BiasDropoutResidualLayerNormBackward& p, const DropoutRows& dropout,
                             std::int64_t b) {
  T* const dgamma = partial_sums<T>(p.workspace, 0, b, p.rows, p.cols);
  T* const dbeta = partial_sums<T>(p.workspace, 1, b, p.rows, p.cols);
  T* const dbias = p.dbias == nullptr ? nullptr : partial_sums<T>(p.workspace, 2, b, p.rows, p.cols);
  for (T* sums : {dgamma, dbeta, dbias})
    if (sums != nullptr) clear(sums, p.cols);
  const LayerNormGradient<T> gradient{p.cols, pointer<T>(p.dy), pointer<T>(p.z), pointer<T>(p.mean),
                                      pointer<T>(p.rstd), pointer<T>(p.gamma), dgamma, dbeta};
  const std::int64_t cols = p.cols;
  T *const dz = pointer<T>(p.dresidual), *const dx = pointer<T>(p.dx);
  const auto rows = [&]<int R>(std::integral_constant<int, R>, std::int64_t r) {
    T* const out = dz + r * cols;
    T* const undropped = dropout.active() ? nullptr : dbias;
    T* const copy = dropout.active() || dx == nullptr || dx == dz ? nullptr : dx + r * cols;
    layer_norm_backward_rows<R>(gradient, r, true, [=](int i, std::int64_t c, auto lanes, Vec<T> value) {
      store(out + i * cols + c, value, lanes);
      if (copy != nullptr) store(copy + i * cols + c, value, lanes);
      add_to(undropped, c, value, lanes);
    });
    if (dropout.active()) drop_rows_backward<R>(dropout, r, cols, dz, dx, dbias);
  };
  for_row_groups<kRowGroup<Stores::cached>>(b * kColumnSumRows, std::min(p.rows, (b + 1) * kColumnSumRows), rows);
}

template <class T>
Status residual_backward(const BiasDropoutResidualLayerNormBackward& p, Stream stream) {
  const DropoutRows dropout(p.dropout, p.map, p.cols);
  const std::int64_t blocks = column_blocks(p.rows);
  parallel_tasks(stream, blocks, [&](std::int64_t b) { residual_block_backward<T>(p, dropout, b); });
  void* const outputs[] = {p.dgamma, p.dbeta, p.dbias};
  for (int k = 0; k < 3; ++k)
    if (outputs[k] != nullptr)
      add_column_blocks(stream, partial_sums<T>(p.workspace, k, 0, p.rows, p.cols), blocks, p.cols,
                        static_cast<T*>(outputs[k]));
  return {};
}

template <class P, Status (*f32)(const P&, Stream), Status (*f64)(const P&, Stream)>
Status run(const P& p, Stream stream) {
  return p.dtype == Dtype::f32 ? f32(p, stream) : f64(p, stream);
}

template <class P>
Status check_cpu(const P& p) {
  if (p.dtype != Dtype::f32 && p.dtype != Dtype::f64) return unsupported("layer norm on the CPU takes f32 and f64");
  return check(p);
}

template <class P, int quantities>
std::size_t column_sum_workspace(const P& p) {
  return static_cast<std::size_t>(quantities * column_blocks(p.rows) * p.cols) * size_of(p.dtype);
}

constexpr Variant forward_variants[] = {{"row_groups", "four rows, or one in memory, stay in L1", "selected always",
                                         erased_run<LayerNorm, run<LayerNorm, forward<float>, forward<double>>>}};
constexpr Variant backward_variants[] = {
    {"row_groups", "the rows of a group share gamma and the sums", "selected always",
     erased_run<LayerNormBackward, run<LayerNormBackward, backward<float>, backward<double>>>}};
using Forward = BiasDropoutResidualLayerNorm;
using Backward = BiasDropoutResidualLayerNormBackward;
constexpr Variant residual_variants[] = {
    {"row_groups", "the sum is normalised while it is in L1", "selected always",
     erased_run<Forward, run<Forward, residual_forward<float>, residual_forward<double>>>}};
constexpr Variant residual_backward_variants[] = {
    {"row_groups", "dropout and dbias follow while dz is in L1", "selected always",
     erased_run<Backward, run<Backward, residual_backward<float>, residual_backward<double>>>}};

constexpr KernelEntry entries[] = {
    entry<LayerNorm, check_cpu<LayerNorm>>(forward_variants),
    entry<LayerNormBackward, check_cpu<LayerNormBackward>, column_sum_workspace<LayerNormBackward, 2>>(
        backward_variants),
    entry<Forward, check_cpu<Forward>>(residual_variants),
    entry<Backward, check_cpu<Backward>, column_sum_workspace<Backward, 3>>(residual_backward_variants),
};

}  // namespace

extern const Family layer_norm_family;
const Family layer_norm_family = family(entries);

}  // namespace sinter::kernels::cpu
