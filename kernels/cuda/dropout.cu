#include "kernels/dropout.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/dropout_rows.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;
/// Elements of one Philox block.
constexpr int kEight = 8;

/// N elements a thread, all of one row.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, 1)
    drop_vectors(std::int64_t count, DropoutRows<Computed<T>> dropout, const T* x, T* y) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads * N;
  for (std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * N; i < count; i += step) {
    const std::int64_t r = i / dropout.cols, c = i % dropout.cols;
    Computed<T> value[N];
    load_vector<N>(x + i, value);
    dropout.drop(dropout.row(r), c, value);
    store_vector<N>(y + i, value);
  }
}

template <int N>
Status run_dropout(const Dropout& p, Stream stream) {
  const std::int64_t count = p.rows * p.cols;
  if (count == 0) return {};
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    return launch(drop_vectors<T, N>, dim3(walking_blocks(count, kThreads * N)), dim3(kThreads), 0, stream, count,
                  DropoutRows<Computed<T>>(p.dropout, p.map, p.cols), static_cast<const T*>(p.x),
                  static_cast<T*>(p.y));
  });
}

Status takes_eights(const Dropout& p) {
  return by_floating(p.dtype, [&]<class T>(Type<T>) {
    if (rows_are_aligned<kEight>(static_cast<const T*>(p.x), p.cols) &&
        rows_are_aligned<kEight>(static_cast<const T*>(p.y), p.cols))
      return Status{};
    return unsupported("vectors are aligned multiples of 8 columns");
  });
}

Status run_eights(const Dropout& p, Stream stream) {
  const Status takes = takes_eights(p);
  return takes.ok() ? run_dropout<kEight>(p, stream) : takes;
}

int select(const Dropout& p) { return takes_eights(p).ok() ? 1 : 0; }

constexpr Variant variants[] = {
    {"by_element", "a thread and a Philox block for each element", "not yet measured",
     erased_run<Dropout, run_dropout<1>>},
    {"by_eights", "8 elements a thread: one Philox block, accesses of 16 bytes", "not yet measured",
     erased_run<Dropout, run_eights>}};
constexpr KernelEntry entries[] = {entry<Dropout, check_floating<Dropout>, no_workspace<Dropout>, select>(variants)};

}  // namespace

extern const Family dropout_family;
const Family dropout_family = family(entries);

}  // namespace sinter::kernels::cuda
