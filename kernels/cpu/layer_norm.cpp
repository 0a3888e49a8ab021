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
T* offset(void* base, std::int64_t elements) {
  return base == nullptr ? nullptr : static_cast<T*>(base) + elements;
}
template <class T>
const T* offset(const void* base, std::int64_t elements) {
  return base == nullptr ? nullptr : static_cast<const T*>(base) + elements;
}

template <class T>
Status forward(const LayerNorm& p, Stream stream) {
  if (p.rows == 0) return {};
  parallel_ranges(stream, p.rows, rows_per_task(p.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      layer_norm_row(offset<T>(p.x, r * p.cols), offset<T>(p.gamma, 0), offset<T>(p.beta, 0),
                     offset<T>(p.y, r * p.cols), p.cols, p.eps, offset<T>(p.mean, r), offset<T>(p.rstd, r));
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

template <class T>
Status backward(const LayerNormBackward& p, Stream stream) {
  constexpr int kRows = 4;
  const std::int64_t blocks = column_blocks(p.rows);
  const bool sums = p.dgamma != nullptr;
  T* const dx = static_cast<T*>(p.dx);
  parallel_tasks(stream, blocks, [&](std::int64_t b) {
    LayerNormGradient<T> gradient{p.cols, offset<T>(p.dy, 0), offset<T>(p.x, 0), offset<T>(p.mean, 0),
                                  offset<T>(p.rstd, 0), offset<T>(p.gamma, 0), nullptr, nullptr};
    if (sums) {
      gradient.dgamma = partial_sums<T>(p.workspace, 0, b, p.rows, p.cols);
      gradient.dbeta = partial_sums<T>(p.workspace, 1, b, p.rows, p.cols);
      clear(gradient.dgamma, p.cols);
      clear(gradient.dbeta, p.cols);
    }
    const std::int64_t end = std::min(p.rows, (b + 1) * kColumnSumRows);
    std::int64_t r = b * kColumnSumRows;
    const auto sink = [&](int i, std::int64_t c, auto lanes, Vec<T> dz) {
      store(dx + (r + i) * p.cols + c, dz, lanes);
    };
    for (; r + kRows <= end; r += kRows) layer_norm_backward_rows<kRows>(gradient, r, dx != nullptr, sink);
    for (; r < end; ++r) layer_norm_backward_rows<1>(gradient, r, dx != nullptr, sink);
  });
  if (!sums) return {};
  add_column_blocks(stream, partial_sums<T>(p.workspace, 0, 0, p.rows, p.cols), blocks, p.cols,
                    static_cast<T*>(p.dgamma));
  add_column_blocks(stream, partial_sums<T>(p.workspace, 1, 0, p.rows, p.cols), blocks, p.cols,
                    static_cast<T*>(p.dbeta));
  return {};
}

/// z = dropout(x + bias) + residual for one row.
template <class T>
void residual_row(const BiasDropoutResidualLayerNorm& p, const DropoutRows& dropout, std::int64_t r, T* z) {
  const T* x = offset<T>(p.x, r * p.cols);
  const T* bias = offset<T>(p.bias, 0);
  const T* residual = offset<T>(p.residual, r * p.cols);
  const auto biased = [&](std::int64_t c, auto lanes) {
    const Vec<T> value = load(x + c, lanes);
    return bias == nullptr ? value : value + load(bias + c, lanes);
  };
  if (!dropout.active()) {
    for_vectors<T>(0, p.cols, [&](std::int64_t c, auto lanes) {
      store(z + c, biased(c, lanes) + load(residual + c, lanes), lanes);
    });
    return;
  }
  const Vec<T> scale = Vec<T>::all(dropout.scale<T>());
  KeepBits bits;
  for (std::int64_t begin = 0; begin < p.cols; begin += kDropoutChunk) {
    const std::int64_t end = std::min(p.cols, begin + kDropoutChunk);
    dropout.draw(r, begin, end, bits);
    for_vectors<T>(begin, end, [&](std::int64_t c, auto lanes) {
      store(z + c, fma(biased(c, lanes).keep(bits.at(c - begin)), scale, load(residual + c, lanes)), lanes);
    });
  }
}

template <class T>
Status residual_forward(const BiasDropoutResidualLayerNorm& p, Stream stream) {
  if (p.rows == 0) return {};
  const DropoutRows dropout(p.dropout, p.map, p.cols);
  parallel_ranges(stream, p.rows, rows_per_task(p.cols), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      T* z = offset<T>(p.z == nullptr ? p.y : p.z, r * p.cols);
      residual_row(p, dropout, r, z);
      layer_norm_row<T>(z, offset<T>(p.gamma, 0), offset<T>(p.beta, 0), offset<T>(p.y, r * p.cols), p.cols, p.eps,
                        offset<T>(p.mean, r), offset<T>(p.rstd, r));
    }
  });
  return {};
}

/// dx = dropout'(dz) for one row, and its terms of dbias; dx is null when dropout is off (dx is dresidual then).
template <class T>
void residual_row_backward(const DropoutRows& dropout, std::int64_t r, std::int64_t cols, const T* dz, T* dx,
                           T* dbias) {
  const Vec<T> scale = Vec<T>::all(dropout.scale<T>());
  KeepBits bits;
  for (std::int64_t begin = 0; begin < cols; begin += kDropoutChunk) {
    const std::int64_t end = std::min(cols, begin + kDropoutChunk);
    if (dropout.active()) dropout.draw(r, begin, end, bits);
    for_vectors<T>(begin, end, [&](std::int64_t c, auto lanes) {
      Vec<T> value = load(dz + c, lanes);
      if (dropout.active()) {
        value = (value * scale).keep(bits.at(c - begin));
        store(dx + c, value, lanes);
      }
      if (dbias != nullptr) store(dbias + c, load(dbias + c, lanes) + value, lanes);
    });
  }
}

template <class T>
void residual_block_backward(const BiasDropoutResidualLayerNormBackward& p, const DropoutRows& dropout, std::int64_t b) {
  constexpr int kRows = 4;
  T* const dgamma = partial_sums<T>(p.workspace, 0, b, p.rows, p.cols);
  T* const dbeta = partial_sums<T>(p.workspace, 1, b, p.rows, p.cols);
  T* const dbias = p.dbias == nullptr ? nullptr : partial_sums<T>(p.workspace, 2, b, p.rows, p.cols);
  for (T* sums : {dgamma, dbeta, dbias})
    if (sums != nullptr) clear(sums, p.cols);
  const LayerNormGradient<T> gradient{p.cols, offset<T>(p.dy, 0), offset<T>(p.z, 0), offset<T>(p.mean, 0),
                                      offset<T>(p.rstd, 0), offset<T>(p.gamma, 0), dgamma, dbeta};
  T* const dz = static_cast<T*>(p.dresidual);
  const auto rows = [&]<int R>(std::integral_constant<int, R>, std::int64_t r) {
    layer_norm_backward_rows<R>(gradient, r, true, [&](int i, std::int64_t c, auto lanes, Vec<T> value) {
      store(dz + (r + i) * p.cols + c, value, lanes);
    });
    for (std::int64_t i = r; i < r + R; ++i)
      if (dbias != nullptr || dropout.active())
        residual_row_backward(dropout, i, p.cols, dz + i * p.cols, offset<T>(p.dx, i * p.cols), dbias);
  };
  const std::int64_t end = std::min(p.rows, (b + 1) * kColumnSumRows);
  std::int64_t r = b * kColumnSumRows;
  for (; r + kRows <= end; r += kRows) rows(std::integral_constant<int, kRows>{}, r);
  for (; r < end; ++r) rows(std::integral_constant<int, 1>{}, r);
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

constexpr Variant forward_variants[] = {{"vector_rows", "a row stays in L1 for its three passes", "selected always",
                                         erased_run<LayerNorm, run<LayerNorm, forward<float>, forward<double>>>}};
constexpr Variant backward_variants[] = {
    {"four_rows", "four rows share gamma and the partial sums", "selected always",
     erased_run<LayerNormBackward, run<LayerNormBackward, backward<float>, backward<double>>>}};
using Forward = BiasDropoutResidualLayerNorm;
using Backward = BiasDropoutResidualLayerNormBackward;
constexpr Variant residual_variants[] = {{"vector_rows", "the sum is normalised while it is in L1", "selected always",
                                          erased_run<Forward, run<Forward, residual_forward<float>, residual_forward<double>>>}};
constexpr Variant residual_backward_variants[] = {
    {"four_rows", "dropout and dbias follow while dz is in L1", "selected always",
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
