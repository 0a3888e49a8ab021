#include "kernels/cuda/ragged.h"

#include "kernels/base/grid.cuh"
#include "kernels/cuda/attention.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 128;

__device__ __forceinline__ std::int64_t first_of_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}
__device__ __forceinline__ std::int64_t step_of_grid() { return static_cast<std::int64_t>(gridDim.x) * kThreads; }

__global__ void __launch_bounds__(kThreads, 1) list_sequences(RaggedTables t) {
  for (std::int64_t b = first_of_thread(); b <= t.listed; b += step_of_grid()) {
    const Sequence sequence = b < t.sequences ? sequence_at(t, b) : Sequence{b, t.tokens, 0};
    for (int i = 0; i < t.tensors; ++i) t.begins[i * (t.listed + 1) + b] = sequence.begin * t.stride[i];
    if (b < t.listed) t.lengths[b] = static_cast<std::int32_t>(sequence.length);
  }
}

/// An element is 4 bytes of a tensor that is hundreds of times smaller than its neighbours: no tiles.
__global__ void __launch_bounds__(kThreads, 1)
    transpose_elements(const float* from, float* to, std::int64_t rows, std::int64_t cols) {
  for (std::int64_t i = first_of_thread(); i < rows * cols; i += step_of_grid())
    to[i] = from[i % rows * cols + i / rows];
}

}  // namespace

Status write_ragged_tables(const RaggedTables& tables, Stream stream) {
  return launch(list_sequences, dim3(walking_blocks(tables.listed + 1, kThreads)), dim3(kThreads), 0, stream, tables);
}

Status transpose_rows(const float* from, float* to, std::int64_t rows, std::int64_t cols, Stream stream) {
  if (rows * cols == 0) return {};
  return launch(transpose_elements, dim3(walking_blocks(rows * cols, kThreads)), dim3(kThreads), 0, stream, from, to,
                rows, cols);
}

}  // namespace sinter::kernels::cuda
