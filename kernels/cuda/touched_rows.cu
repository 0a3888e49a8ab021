#include "kernels/touched_rows.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/marked_rows.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// Equal ids write the same place, so the writes are atomic.
__global__ void __launch_bounds__(kThreads, 1) mark_ids(MarkRows p) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < p.n;
       i += std::int64_t{gridDim.x} * kThreads) {
    const std::int64_t row = p.ids[i];
    if (row < 0 || row >= p.rows) device_fail("ids: every index must lie in [0, rows)");
    atomicExch(p.touched + row, 1);
  }
}

Status mark_rows(const MarkRows& p, Stream stream) {
  if (p.n == 0) return {};
  return launch(mark_ids, dim3(walking_blocks(p.n, kThreads)), dim3(kThreads), 0, stream, p);
}

/// A block for 32 rows; `units` of Unit are a row. The marks are cleared behind a barrier: every warp has read them.
template <class Unit>
__global__ void __launch_bounds__(kThreads, 1)
    zero_marked(std::int64_t rows, std::int64_t units, std::int32_t* touched, Unit* table) {
  for (std::int64_t first = std::int64_t{blockIdx.x} * kWarp; first < rows; first += std::int64_t{gridDim.x} * kWarp) {
    const unsigned marked = marked_rows(touched, first, rows);
    __syncthreads();
    if (marked == 0) continue;
    for_marked_rows(marked, first, [&](std::int64_t row) {
      for (std::int64_t c = threadIdx.x; c < units; c += kThreads) table[row * units + c] = Unit{};
    });
    if (threadIdx.x < kWarp && (marked >> threadIdx.x & 1u) != 0) touched[first + threadIdx.x] = 0;
  }
}

using Unit16 = Pack<std::uint32_t, 4>;

template <class Unit>
Status launch_zero(const ZeroRows& p, std::int64_t units, Stream stream) {
  if (p.rows == 0) return {};
  return launch(zero_marked<Unit>, dim3(walking_blocks(p.rows, kWarp)), dim3(kThreads), 0, stream, p.rows, units,
                p.touched, static_cast<Unit*>(p.table));
}

std::int64_t row_bytes(const ZeroRows& p) { return p.cols * static_cast<std::int64_t>(size_of(p.dtype)); }

Status zero_by_element(const ZeroRows& p, Stream stream) {
  return by_bits(p.dtype, [&]<class T>(Type<T>) { return launch_zero<T>(p, p.cols, stream); });
}

bool takes_16_bytes(const ZeroRows& p) { return rows_are_aligned<16>(static_cast<const char*>(p.table), row_bytes(p)); }

Status zero_by_vector(const ZeroRows& p, Stream stream) {
  if (!takes_16_bytes(p)) return unsupported("rows are not aligned to 16 bytes");
  return launch_zero<Unit16>(p, row_bytes(p) / 16, stream);
}

int select_zero(const ZeroRows& p) { return takes_16_bytes(p) ? 1 : 0; }

constexpr Variant mark_variants[] = {
    {"by_id", "a thread for each id", "not yet measured", erased_run<MarkRows, mark_rows>}};
constexpr Variant zero_variants[] = {
    {"by_element", "a block for 32 rows, an element an access", "not yet measured",
     erased_run<ZeroRows, zero_by_element>},
    {"by_vector", "16 bytes an access", "not yet measured; selected where rows are aligned to 16 bytes",
     erased_run<ZeroRows, zero_by_vector>},
};
constexpr KernelEntry entries[] = {
    entry<MarkRows, check>(mark_variants),
    entry<ZeroRows, check, no_workspace<ZeroRows>, select_zero>(zero_variants),
};

}  // namespace

extern const Family touched_rows_family;
const Family touched_rows_family = family(entries);

}  // namespace sinter::kernels::cuda
