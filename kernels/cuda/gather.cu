#include "kernels/gather.h"

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/equal_rows.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/vec.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;

/// outer, n, inner and m of the contract; inner may be counted in units of several elements.
struct Sizes {
  std::int64_t outer, n, inner, m;

  __device__ __forceinline__ std::int64_t moved() const { return outer * m * inner; }
};

template <class P>
Sizes sizes_of(const P& p) {
  return {p.outer, p.n, p.inner, p.m};
}
template <class P>
bool is_empty(const P& p) {
  return p.outer == 0 || p.inner == 0 || p.m == 0;
}

__device__ __forceinline__ std::int64_t checked(std::int64_t index, std::int64_t n) {
  if (index < 0 || index >= n) device_fail("an index lies outside [0, n)");
  return index;
}

__device__ __forceinline__ std::int64_t first_item() {
  return std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
}
__device__ __forceinline__ std::int64_t item_step() { return std::int64_t{gridDim.x} * kThreads; }

// --- IndexSelect: rows in units of an element or of 16 bytes ---

using Unit16 = Pack<std::uint32_t, 4>;

template <class Unit>
__global__ void __launch_bounds__(kThreads, 1)
    select_units(Sizes s, const Unit* src, const std::int64_t* index, Unit* dst) {
  for (std::int64_t k = first_item(); k < s.moved(); k += item_step()) {
    const std::int64_t row = k / s.inner, i = k - row * s.inner;
    const std::int64_t o = row / s.m, j = row - o * s.m;
    dst[k] = src[(o * s.n + checked(index[j], s.n)) * s.inner + i];
  }
}

template <class Unit>
Status launch_select(const IndexSelect& p, std::int64_t inner, Stream stream) {
  const Sizes sizes = {p.outer, p.n, inner, p.m};
  return launch(select_units<Unit>, dim3(walking_blocks(p.outer * p.m * inner, kThreads)), dim3(kThreads), 0, stream,
                sizes, static_cast<const Unit*>(p.src), p.index, static_cast<Unit*>(p.dst));
}

Status select_by_element(const IndexSelect& p, Stream stream) {
  if (is_empty(p)) return {};
  return by_bits(p.dtype, [&]<class T>(Type<T>) { return launch_select<T>(p, p.inner, stream); });
}

std::int64_t row_bytes(const IndexSelect& p) { return p.inner * static_cast<std::int64_t>(size_of(p.dtype)); }

bool takes_16_bytes(const IndexSelect& p) {
  return rows_are_aligned<16>(static_cast<const char*>(p.src), row_bytes(p)) &&
         rows_are_aligned<16>(static_cast<const char*>(p.dst), row_bytes(p));
}

Status select_by_vector(const IndexSelect& p, Stream stream) {
  if (!takes_16_bytes(p)) return unsupported("rows are not aligned to 16 bytes");
  if (is_empty(p)) return {};
  return launch_select<Unit16>(p, row_bytes(p) / 16, stream);
}

int choose_select(const IndexSelect& p) { return takes_16_bytes(p) ? 1 : 0; }

// --- Gather ---

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    gather_elements(Sizes s, const T* src, const std::int64_t* index, T* dst) {
  for (std::int64_t k = first_item(); k < s.moved(); k += item_step()) {
    const std::int64_t row = k / s.inner;
    dst[k] = src[(row / s.m * s.n + checked(index[k], s.n)) * s.inner + (k - row * s.inner)];
  }
}

/// Elements that a thread of gather_vectors moves.
constexpr int kGathered = 4;

/// Where element k of index and dst stands, found by divisions once and by steps afterwards.
struct Position {
  std::int64_t outer, row, i;   ///< row: j

  __device__ __forceinline__ Position(const Sizes& s, std::int64_t k) {
    row = k / s.inner;
    i = k - row * s.inner;
    outer = row / s.m;
    row -= outer * s.m;
  }
  __device__ __forceinline__ void advance(const Sizes& s) {
    if (++i < s.inner) return;
    i = 0;
    if (++row < s.m) return;
    row = 0;
    ++outer;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    gather_vectors(Sizes s, const T* src, const std::int64_t* index, T* dst) {
  const std::int64_t total = s.moved();
  for (std::int64_t k = first_item() * kGathered; k < total; k += item_step() * kGathered) {
    Position at(s, k);
    if (k + kGathered > total) {
      for (std::int64_t t = k; t < total; ++t, at.advance(s))
        dst[t] = src[(at.outer * s.n + checked(index[t], s.n)) * s.inner + at.i];
      continue;
    }
    Pack<T, kGathered> moved;
#pragma unroll
    for (int h = 0; h < kGathered; h += 2) {
      const auto two = *reinterpret_cast<const Pack<std::int64_t, 2>*>(index + k + h);
#pragma unroll
      for (int w = 0; w < 2; ++w, at.advance(s))
        moved.element[h + w] = src[(at.outer * s.n + checked(two.element[w], s.n)) * s.inner + at.i];
    }
    *reinterpret_cast<Pack<T, kGathered>*>(dst + k) = moved;
  }
}

template <class T>
Status launch_gather(void (*kernel)(Sizes, const T*, const std::int64_t*, T*), int per_thread, const Gather& p,
                     Stream stream) {
  const unsigned blocks = walking_blocks(p.outer * p.m * p.inner, std::int64_t{kThreads} * per_thread);
  return launch(kernel, dim3(blocks), dim3(kThreads), 0, stream, sizes_of(p), static_cast<const T*>(p.src), p.index,
                static_cast<T*>(p.dst));
}

Status gather_by_element(const Gather& p, Stream stream) {
  if (is_empty(p)) return {};
  return by_bits(p.dtype, [&]<class T>(Type<T>) { return launch_gather<T>(gather_elements<T>, 1, p, stream); });
}

bool takes_vectors(const Gather& p) {
  return size_of(p.dtype) <= 4 && reinterpret_cast<std::uintptr_t>(p.index) % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(p.dst) % (kGathered * size_of(p.dtype)) == 0;
}

Status gather_by_vector(const Gather& p, Stream stream) {
  if (!takes_vectors(p)) return unsupported("index or dst is not aligned, or elements have 8 bytes");
  if (is_empty(p)) return {};
  const auto run = [&]<class T>() { return launch_gather<T>(gather_vectors<T>, kGathered, p, stream); };
  switch (size_of(p.dtype)) {
    case 1: return run.template operator()<std::uint8_t>();
    case 2: return run.template operator()<std::uint16_t>();
    default: return run.template operator()<std::uint32_t>();
  }
}

int choose_gather(const Gather& p) { return takes_vectors(p) ? 1 : 0; }

// --- Sums ---

/// fn(Type<T>{}) for a dtype that can be added; unsupported for any other.
template <class Fn>
Status by_number(Dtype dtype, Fn&& fn) {
  switch (dtype) {
    case Dtype::i64: return fn(Type<std::int64_t>{});
    case Dtype::i32: return fn(Type<std::int32_t>{});
    default: return by_floating(dtype, fn);
  }
}

template <class P>
Status check_number(const P& p) {
  if (!is_floating(p.dtype) && p.dtype != Dtype::i64 && p.dtype != Dtype::i32)
    return unsupported("adding needs a floating dtype, i64 or i32");
  return check(p);
}

constexpr Status kSumsInMemory = unsupported("sums of 16 bits are kept in registers, those of this variant in memory");

/// Reads, adds and writes for every j: a place has one thread.
template <class T, bool one_index_a_row>
__global__ void __launch_bounds__(kThreads, 1)
    add_columns(Sizes s, std::int64_t skip, const T* src, const std::int64_t* index, T* dst) {
  for (std::int64_t column = first_item(); column < s.outer * s.inner; column += item_step()) {
    const std::int64_t o = column / s.inner, i = column - o * s.inner;
    for (std::int64_t j = 0; j < s.m; ++j) {
      const std::int64_t from = (o * s.m + j) * s.inner + i;
      const std::int64_t place = index[one_index_a_row ? j : from];
      if (one_index_a_row && skip != -1 && place == skip) continue;
      T* to = dst + (o * s.n + checked(place, s.n)) * s.inner + i;
      *to = from_sum<T>(to_sum(*to) + to_sum(src[from]));
    }
  }
}

template <bool one_index_a_row, class P>
Status launch_columns(const P& p, std::int64_t skip, Stream stream) {
  if (size_of(p.dtype) == 2) return kSumsInMemory;
  if (is_empty(p)) return {};
  return by_number(p.dtype, [&]<class T>(Type<T>) {
    return launch(add_columns<T, one_index_a_row>, dim3(walking_blocks(p.outer * p.inner, kThreads)), dim3(kThreads), 0,
                  stream, sizes_of(p), skip, static_cast<const T*>(p.src), p.index, static_cast<T*>(p.dst));
  });
}

Status index_add_by_column(const IndexAdd& p, Stream stream) { return launch_columns<true>(p, p.skip, stream); }
Status scatter_add_by_column(const ScatterAdd& p, Stream stream) { return launch_columns<false>(p, -1, stream); }

// --- IndexAdd by rows: the warp of the first row with an index adds up all rows that have it ---

template <class T, int width>
__global__ void __launch_bounds__(kThreads, 1)
    add_rows(Sizes s, std::int64_t skip, const T* src, const std::int64_t* index, T* dst) {
  const unsigned lane = threadIdx.x % kWarp;
  const std::int64_t ranges = (s.inner + kWarp * width - 1) / (kWarp * width);   // of columns, one for a warp
  const std::int64_t items = s.m * s.outer * ranges;
  for (std::int64_t item = first_item() / kWarp; item < items; item += item_step() / kWarp) {
    const std::int64_t j = item / (s.outer * ranges), rest = item - j * (s.outer * ranges);
    const std::int64_t o = rest / ranges, column = (rest - o * ranges) * kWarp * width + lane * width;
    const std::int64_t place = index[j];
    if (skip != -1 && place == skip) continue;   // the same for the whole warp, as what follows
    checked(place, s.n);
    if (stands_before(index, j, place)) continue;
    auto* const to = reinterpret_cast<Pack<T, width>*>(dst + (o * s.n + place) * s.inner + column);
    const bool mine = column < s.inner;
    Pack<T, width> pack = {};
    if (mine) pack = *to;
    Sum<T> sum[width];
#pragma unroll
    for (int w = 0; w < width; ++w) sum[w] = to_sum(pack.element[w]);
    add_equal_rows(index, j, s.m, place, src + o * s.m * s.inner + column, s.inner, mine, sum);
#pragma unroll
    for (int w = 0; w < width; ++w) pack.element[w] = from_sum<T>(sum[w]);
    if (mine) *to = pack;
  }
}

template <class T, int width>
Status launch_rows(const IndexAdd& p, Stream stream) {
  const std::int64_t warps = p.m * p.outer * ceil_div(p.inner, kWarp * width);
  return launch(add_rows<T, width>, dim3(walking_blocks(warps, kThreads / kWarp)), dim3(kThreads), 0, stream,
                sizes_of(p), p.skip, static_cast<const T*>(p.src), p.index, static_cast<T*>(p.dst));
}

Status index_add_by_row(const IndexAdd& p, Stream stream) {
  if (is_empty(p)) return {};
  return by_number(p.dtype, [&]<class T>(Type<T>) {
    constexpr int width = kVector<T>;
    const bool aligned = rows_are_aligned<width>(static_cast<const T*>(p.src), p.inner) &&
                         rows_are_aligned<width>(static_cast<const T*>(p.dst), p.inner);
    return aligned ? launch_rows<T, width>(p, stream) : launch_rows<T, 1>(p, stream);
  });
}

/// Looking for equal indices costs m^2 / 32 steps of a warp at worst, walking all rows m steps of a few threads.
constexpr std::int64_t kMostRows = 32768;

int choose_index_add(const IndexAdd& p) { return size_of(p.dtype) == 2 || p.m <= kMostRows ? 1 : 0; }

// --- ScatterAdd by elements: the thread of the first element of a column with an index adds up all that have it ---

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    add_elements(Sizes s, const T* src, const std::int64_t* index, T* dst) {
  for (std::int64_t k = first_item(); k < s.moved(); k += item_step()) {
    const Position at(s, k);
    const std::int64_t top = at.outer * s.m * s.inner + at.i;   // element j of the column is top + j * inner
    const std::int64_t place = checked(index[k], s.n);
    bool first = true;
    for (std::int64_t j = 0; j < at.row && first; ++j) first = index[top + j * s.inner] != place;
    if (!first) continue;
    T* to = dst + (at.outer * s.n + place) * s.inner + at.i;
    Sum<T> sum = to_sum(*to);
    for (std::int64_t j = at.row; j < s.m; ++j)
      if (index[top + j * s.inner] == place) sum += to_sum(src[top + j * s.inner]);
    *to = from_sum<T>(sum);
  }
}

Status scatter_add_by_element(const ScatterAdd& p, Stream stream) {
  if (is_empty(p)) return {};
  return by_number(p.dtype, [&]<class T>(Type<T>) {
    return launch(add_elements<T>, dim3(walking_blocks(p.outer * p.m * p.inner, kThreads)), dim3(kThreads), 0, stream,
                  sizes_of(p), static_cast<const T*>(p.src), p.index, static_cast<T*>(p.dst));
  });
}

/// Columns that fill a GPU by themselves are walked; where they are few, their elements are the threads.
constexpr std::int64_t kManyColumns = 65536, kMostElements = 4096;

int choose_scatter_add(const ScatterAdd& p) {
  return size_of(p.dtype) == 2 || (p.outer * p.inner < kManyColumns && p.m <= kMostElements) ? 1 : 0;
}

constexpr Variant index_select_variants[] = {
    {"by_element", "a thread for each element", "not yet measured", erased_run<IndexSelect, select_by_element>},
    {"by_vector", "a thread for each 16 bytes of a row", "not yet measured; selected where rows are aligned",
     erased_run<IndexSelect, select_by_vector>},
};
constexpr Variant gather_variants[] = {
    {"by_element", "a thread for each element", "not yet measured", erased_run<Gather, gather_by_element>},
    {"by_vector", "four elements a thread, indices two at a time", "not yet measured; selected where it can",
     erased_run<Gather, gather_by_vector>},
};
constexpr Variant index_add_variants[] = {
    {"by_column", "a thread for each column walks all rows", "not yet measured; selected for very many rows",
     erased_run<IndexAdd, index_add_by_column>},
    {"by_row", "the first row with an index adds up all that have it, in registers", "not yet measured",
     erased_run<IndexAdd, index_add_by_row>},
};
constexpr Variant scatter_add_variants[] = {
    {"by_column", "a thread for each column walks its elements", "not yet measured; selected for many columns",
     erased_run<ScatterAdd, scatter_add_by_column>},
    {"by_element", "the first element of a column with an index adds up all that have it", "not yet measured",
     erased_run<ScatterAdd, scatter_add_by_element>},
};

constexpr KernelEntry entries[] = {
    entry<IndexSelect, check, no_workspace<IndexSelect>, choose_select>(index_select_variants),
    entry<IndexAdd, check_number<IndexAdd>, no_workspace<IndexAdd>, choose_index_add>(index_add_variants),
    entry<Gather, check, no_workspace<Gather>, choose_gather>(gather_variants),
    entry<ScatterAdd, check_number<ScatterAdd>, no_workspace<ScatterAdd>, choose_scatter_add>(scatter_add_variants),
};

}  // namespace

extern const Family gather_family;
const Family gather_family = family(entries);

}  // namespace sinter::kernels::cuda
