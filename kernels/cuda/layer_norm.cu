#include "kernels/layer_norm.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/collective.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// --- Forward ---

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    normalise_by_block(std::int64_t rows, std::int64_t cols, Computed<T> eps, const T* x, const Computed<T>* gamma,
                     const Computed<T>* beta, T* y, Computed<T>* mean, Computed<T>* rstd) {
  using A = Computed<T>;
  SINTER_SHARED(A, sum_parts, [kThreads / kWarp]);
  SINTER_SHARED(A, square_parts, [kThreads / kWarp]);
  for (std::int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const T* row = x + r * cols;
    A sum = 0;
    for (std::int64_t c = threadIdx.x; c < cols; c += kThreads) sum += load(row + c);
    const A m = block_all<Add, kThreads>(sum, sum_parts) / static_cast<A>(cols);
    A squares = 0;
    for (std::int64_t c = threadIdx.x; c < cols; c += kThreads) {
      const A deviation = load(row + c) - m;
      squares += deviation * deviation;
    }
    const A s = A{1} / sqrt(block_all<Add, kThreads>(squares, square_parts) / static_cast<A>(cols) + eps);
    for (std::int64_t c = threadIdx.x; c < cols; c += kThreads)
      store(y + r * cols + c, (load(row + c) - m) * s * gamma[c] + beta[c]);
    if (threadIdx.x == 0) {
      if (mean != nullptr) mean[r] = m;
      if (rstd != nullptr) rstd[r] = s;
    }
  }
}

template <class T>
Status run_forward_by_block(const LayerNorm& p, Stream stream) {
  return launch(normalise_by_block<T>, dim3(blocks_for(p.rows, 1)), dim3(kThreads), 0, stream, p.rows, p.cols, p.eps,
                static_cast<const T*>(p.x), static_cast<const Computed<T>*>(p.gamma),
                static_cast<const Computed<T>*>(p.beta), static_cast<T*>(p.y), static_cast<Computed<T>*>(p.mean),
                static_cast<Computed<T>*>(p.rstd));
}

Status forward_by_block(const LayerNorm& p, Stream stream) {
  if (p.rows == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) { return run_forward_by_block<T>(p, stream); });
}

constexpr Variant forward_variants[] = {
    {"by_block", "a block for each row, which it reads three times", "not yet measured",
     erased_run<LayerNorm, forward_by_block>},
};

constexpr KernelEntry entries[] = {
    entry<LayerNorm, check_floating<LayerNorm>>(forward_variants),
};

}  // namespace

extern const Family layer_norm_family;
const Family layer_norm_family = family(entries);

}  // namespace sinter::kernels::cuda
