#include "kernels/copy.h"

#include <algorithm>
#include <bit>

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/cast.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/walk.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;
/// Elements of a thread where each is read on its own: so many reads are under way at once.
constexpr int kItems = 4;

/// What moves 16 bytes.
using Bits16 = Pack<std::uint32_t, 4>;

/// dst is operand 0, src operand 1; the order of the copy is that of dst's memory.
LoopNest<2> copy_nest(const Copy& p) {
  const Strides* const operands[] = {&p.dst_strides, &p.src_strides};
  return make_ordered_nest(p.extents, operands);
}

LoopNest<1> fill_nest(const Fill& p) {
  const Strides* const operands[] = {&p.dst_strides};
  return make_ordered_nest(p.extents, operands);
}

/// True when one dimension of step 1 is left.
template <int N>
bool is_contiguous(const LoopNest<N>& nest) {
  if (nest.rank != 1) return false;
  for (int k = 0; k < N; ++k)
    if (nest.step[k][0] != 1) return false;
  return true;
}

/// Turns a nest of elements of `size` bytes into one of the largest unit of up to 16 bytes that divides every row, step
/// and address; answers the bytes of the unit.
template <int N>
std::size_t widen_units(LoopNest<N>& nest, std::size_t size, const void* const (&bases)[N]) {
  const int last = nest.rank - 1;
  for (int k = 0; k < N; ++k)
    if (nest.step[k][last] != 1) return size;
  const auto all_divide = [&](std::int64_t factor) {
    bool divides = nest.size[last] % factor == 0;
    for (int k = 0; k < N; ++k) {
      divides = divides && reinterpret_cast<std::uintptr_t>(bases[k]) % (static_cast<std::size_t>(factor) * size) == 0;
      for (int d = 0; d < last; ++d) divides = divides && nest.step[k][d] % factor == 0;
    }
    return divides;
  };
  std::int64_t factor = static_cast<std::int64_t>(16 / size);
  while (!all_divide(factor)) factor /= 2;
  nest.size[last] /= factor;
  for (int k = 0; k < N; ++k)
    for (int d = 0; d < last; ++d) nest.step[k][d] /= factor;
  return static_cast<std::size_t>(factor) * size;
}

/// How n contiguous elements are cut: `head` of them, then whole vectors of `width`, then the rest.
struct Span {
  std::int64_t head = 0, vectors = 0, singles = 0;

  /// Pieces of work: first the vectors, then the singles.
  std::int64_t pieces() const { return vectors + singles; }
};

/// The element that piece `vectors + j` stands for.
__device__ __forceinline__ std::int64_t single_element(const Span& span, int width, std::int64_t j) {
  return j < span.head ? j : j + span.vectors * width;
}

Span make_span(std::int64_t n, std::int64_t head, std::int64_t width) {
  head = std::min(head, n);
  const std::int64_t vectors = (n - head) / width;
  return {head, vectors, n - vectors * width};
}

/// Elements of `size` bytes before the first address that is a multiple of `width` elements.
std::int64_t elements_before_vector(const void* base, std::size_t size, std::int64_t width) {
  const auto place = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(base) / size) % width;
  return place == 0 ? 0 : width - place;
}

// --- Copy ---

/// Element `at` of a buffer of any dtype, written from the widest type of its kind.
template <class X>
__device__ void store_as(Dtype dtype, void* dst, std::int64_t at, X x) {
  switch (dtype) {
    case Dtype::f32: static_cast<float*>(dst)[at] = cast<float>(x); break;
    case Dtype::f64: static_cast<double*>(dst)[at] = cast<double>(x); break;
    case Dtype::f16: static_cast<f16*>(dst)[at] = cast<f16>(x); break;
    case Dtype::bf16: static_cast<bf16*>(dst)[at] = cast<bf16>(x); break;
    case Dtype::i64: static_cast<std::int64_t*>(dst)[at] = cast<std::int64_t>(x); break;
    case Dtype::i32: static_cast<std::int32_t*>(dst)[at] = cast<std::int32_t>(x); break;
    case Dtype::u8: static_cast<std::uint8_t*>(dst)[at] = cast<std::uint8_t>(x); break;
    case Dtype::boolean: static_cast<bool*>(dst)[at] = cast<bool>(x); break;
  }
}

__device__ void convert_element(Dtype from, const void* src, std::int64_t read, Dtype to, void* dst,
                                std::int64_t write) {
  switch (from) {
    case Dtype::f32: store_as<double>(to, dst, write, static_cast<const float*>(src)[read]); break;
    case Dtype::f64: store_as<double>(to, dst, write, static_cast<const double*>(src)[read]); break;
    case Dtype::f16: store_as<double>(to, dst, write, load(static_cast<const f16*>(src) + read)); break;
    case Dtype::bf16: store_as<double>(to, dst, write, load(static_cast<const bf16*>(src) + read)); break;
    case Dtype::i64: store_as<std::int64_t>(to, dst, write, static_cast<const std::int64_t*>(src)[read]); break;
    case Dtype::i32: store_as<std::int64_t>(to, dst, write, static_cast<const std::int32_t*>(src)[read]); break;
    default: store_as<std::int64_t>(to, dst, write, static_cast<const std::uint8_t*>(src)[read]); break;
  }
}

template <class Unit>
__device__ void move_element(const void* src, std::int64_t read, void* dst, std::int64_t write) {
  static_cast<Unit*>(dst)[write] = static_cast<const Unit*>(src)[read];
}

__global__ void __launch_bounds__(kThreads, 1)
    copy_by_element(Walk<2, std::int64_t> walk, Dtype from, const void* src, Dtype to, void* dst) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < walk.count;
       i += std::int64_t{gridDim.x} * kThreads) {
    std::int64_t at[2];
    walk.offsets(i, at);
    if (from != to) {
      convert_element(from, src, at[1], to, dst, at[0]);
    } else if (from == Dtype::f64 || from == Dtype::i64) {
      move_element<std::uint64_t>(src, at[1], dst, at[0]);
    } else if (from == Dtype::f32 || from == Dtype::i32) {
      move_element<std::uint32_t>(src, at[1], dst, at[0]);
    } else if (from == Dtype::f16 || from == Dtype::bf16) {
      move_element<std::uint16_t>(src, at[1], dst, at[0]);
    } else {
      move_element<std::uint8_t>(src, at[1], dst, at[0]);
    }
  }
}

Status run_by_element(const Copy& p, Stream stream) {
  const LoopNest<2> nest = copy_nest(p);
  if (nest.count() == 0) return {};
  return launch(copy_by_element, dim3(walking_blocks(nest.count(), kThreads)), dim3(kThreads), 0, stream,
                Walk<2, std::int64_t>(nest), p.src_dtype, p.src, p.dst_dtype, p.dst);
}

template <class To, class From>
__global__ void __launch_bounds__(kThreads, 1) copy_units(Walk<2, std::uint32_t> walk, const From* src, To* dst) {
  const std::uint32_t first = blockIdx.x * (kThreads * kItems) + threadIdx.x;
  From x[kItems];
  std::int64_t to[kItems];
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    const std::uint32_t i = first + static_cast<std::uint32_t>(k * kThreads);
    if (i >= walk.count) break;
    std::int64_t at[2];
    walk.offsets(i, at);
    to[k] = at[0];
    x[k] = src[at[1]];
  }
#pragma unroll
  for (int k = 0; k < kItems; ++k) {
    if (first + static_cast<std::uint32_t>(k * kThreads) >= walk.count) break;
    dst[to[k]] = cast<To>(x[k]);
  }
}

template <class To, class From>
Status launch_units(const LoopNest<2>& nest, const Copy& p, Stream stream) {
  return launch(copy_units<To, From>, dim3(blocks_for(nest.count(), kThreads * kItems)), dim3(kThreads), 0, stream,
                Walk<2, std::uint32_t>(nest), static_cast<const From*>(p.src), static_cast<To*>(p.dst));
}

/// fn(Type<To>{}, Type<From>{}) for the types of a copy between different dtypes; booleans are read as u8.
template <class Fn>
Status by_pair(const Copy& p, Fn&& fn) {
  return by_dtype(p.src_dtype == Dtype::boolean ? Dtype::u8 : p.src_dtype, [&]<class From>(Type<From> from) {
    if constexpr (std::is_same_v<From, bool>)
      return Status{};
    else
      return by_dtype(p.dst_dtype, [&]<class To>(Type<To> to) { return fn(to, from); });
  });
}

constexpr Status kTooMany = unsupported("this variant counts fewer than 2^31 elements");

Status run_units(const Copy& p, Stream stream) {
  LoopNest<2> nest = copy_nest(p);
  if (nest.count() == 0) return {};
  const bool moves = p.src_dtype == p.dst_dtype;
  const void* const bases[] = {p.dst, p.src};
  const std::size_t unit = moves ? widen_units(nest, size_of(p.src_dtype), bases) : 0;
  if (!fits_32(nest)) return kTooMany;
  switch (unit) {
    case 1: return launch_units<std::uint8_t, std::uint8_t>(nest, p, stream);
    case 2: return launch_units<std::uint16_t, std::uint16_t>(nest, p, stream);
    case 4: return launch_units<std::uint32_t, std::uint32_t>(nest, p, stream);
    case 8: return launch_units<std::uint64_t, std::uint64_t>(nest, p, stream);
    case 16: return launch_units<Bits16, Bits16>(nest, p, stream);
    default:
      return by_pair(p, [&]<class To, class From>(Type<To>, Type<From>) {
        return launch_units<To, From>(nest, p, stream);
      });
  }
}

template <class To, class From>
inline constexpr int kCopyWidth = static_cast<int>(16 / (sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From)));

template <class To, class From>
__global__ void __launch_bounds__(kThreads, 1) copy_vectors(Span span, const From* src, To* dst) {
  constexpr int width = kCopyWidth<To, From>;
  const std::int64_t pieces = span.vectors + span.singles;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < pieces;
       i += std::int64_t{gridDim.x} * kThreads) {
    if (i < span.vectors) {
      const std::int64_t at = span.head + i * width;
      const Pack<From, width> x = *reinterpret_cast<const Pack<From, width>*>(src + at);
      Pack<To, width> y;
#pragma unroll
      for (int k = 0; k < width; ++k) y.element[k] = cast<To>(x.element[k]);
      *reinterpret_cast<Pack<To, width>*>(dst + at) = y;
    } else {
      const std::int64_t at = single_element(span, width, i - span.vectors);
      dst[at] = cast<To>(src[at]);
    }
  }
}

template <class To, class From>
Status launch_vectors(std::int64_t n, const Copy& p, Stream stream) {
  constexpr int width = kCopyWidth<To, From>;
  const std::int64_t head = elements_before_vector(p.dst, sizeof(To), width);
  if (head != elements_before_vector(p.src, sizeof(From), width))
    return unsupported("vectors of src and of dst begin at different elements");
  const Span span = make_span(n, head, width);
  return launch(copy_vectors<To, From>, dim3(walking_blocks(span.pieces(), kThreads)), dim3(kThreads), 0, stream, span,
                static_cast<const From*>(p.src), static_cast<To*>(p.dst));
}

Status run_vectors(const Copy& p, Stream stream) {
  const LoopNest<2> nest = copy_nest(p);
  if (nest.count() == 0) return {};
  if (!is_contiguous(nest)) return unsupported("src and dst must be contiguous alike");
  if (p.src_dtype == p.dst_dtype)
    return by_bits(p.src_dtype, [&]<class T>(Type<T>) { return launch_vectors<T, T>(nest.count(), p, stream); });
  return by_pair(p, [&]<class To, class From>(Type<To>, Type<From>) {
    return launch_vectors<To, From>(nest.count(), p, stream);
  });
}

constexpr int kTile = 32;
/// Rows of a tile that the threads of a block take at once.
constexpr int kTileRows = kThreads / kTile;

/// The dimension that makes the nest a transpose worth tiling, along which src has step 1 while dst has it along the
/// last; -1 where there is none.
int transposed_dimension(const LoopNest<2>& nest) {
  const int last = nest.rank - 1;
  if (nest.step[0][last] != 1 || nest.step[1][last] == 1 || nest.step[1][last] == 0 || nest.size[last] < 8) return -1;
  for (int d = 0; d < last; ++d)
    if (nest.step[1][d] == 1 && nest.size[d] >= 8) return d;
  return -1;
}

/// dst[r * dst_step + c] = src[r + c * src_step] for rows x cols elements of each matrix of `outer`.
struct Transpose {
  std::int64_t rows, cols, dst_step, src_step;
};

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    copy_tiles(Walk<2, std::int64_t> outer, Transpose matrix, const T* src, T* dst) {
  SINTER_SHARED(T, tile, [kTile][kTile + 1]);
  const std::int64_t bands = ceil_div(matrix.rows, kTile), columns = ceil_div(matrix.cols, kTile);
  const int lane = static_cast<int>(threadIdx.x) % kTile, line = static_cast<int>(threadIdx.x) / kTile;
  for (std::int64_t t = blockIdx.x; t < outer.count * bands * columns; t += gridDim.x) {
    std::int64_t at[2];
    outer.offsets(t / columns / bands, at);
    const std::int64_t row = t / columns % bands * kTile, col = t % columns * kTile;
    for (int c = line; c < kTile; c += kTileRows)
      if (row + lane < matrix.rows && col + c < matrix.cols)
        tile[c][lane] = src[at[1] + row + lane + (col + c) * matrix.src_step];
    __syncthreads();
    for (int r = line; r < kTile; r += kTileRows)
      if (row + r < matrix.rows && col + lane < matrix.cols)
        dst[at[0] + (row + r) * matrix.dst_step + col + lane] = tile[lane][r];
    __syncthreads();
  }
}

Status run_tiles(const Copy& p, Stream stream) {
  const LoopNest<2> nest = copy_nest(p);
  if (nest.count() == 0) return {};
  const int row = transposed_dimension(nest), last = nest.rank - 1;
  if (p.src_dtype != p.dst_dtype || row < 0) return unsupported("this is no transpose inside one dtype");
  LoopNest<2> outer;
  for (int d = 0; d < last; ++d)
    if (d != row) outer.append(nest.size[d], {nest.step[0][d], nest.step[1][d]});
  outer.finish();
  const Transpose matrix = {nest.size[row], nest.size[last], nest.step[0][row], nest.step[1][last]};
  const std::int64_t tiles = outer.count() * ceil_div(matrix.rows, kTile) * ceil_div(matrix.cols, kTile);
  return by_bits(p.src_dtype, [&]<class T>(Type<T>) {
    return launch(copy_tiles<T>, dim3(walking_blocks(tiles, 1)), dim3(kThreads), 0, stream,
                  Walk<2, std::int64_t>(outer), matrix, static_cast<const T*>(p.src), static_cast<T*>(p.dst));
  });
}

constexpr Variant copy_variants[] = {
    {"by_element", "a thread for each element, 64-bit divisions, dtypes looked at in the kernel", "not yet measured",
     erased_run<Copy, run_by_element>},
    {"units", "multiplications instead of divisions; equal dtypes in units of up to 16 bytes", "not yet measured",
     erased_run<Copy, run_units>},
    {"vectors", "contiguous: 16 bytes of the wider dtype a thread", "not yet measured",
     erased_run<Copy, run_vectors>},
    {"tiles", "transposes through shared memory, both sides in whole rows", "not yet measured",
     erased_run<Copy, run_tiles>},
};

int select_copy(const Copy& p) {
  enum { by_element, units, vectors, tiles };
  const LoopNest<2> nest = copy_nest(p);
  const std::size_t size = std::max(size_of(p.src_dtype), size_of(p.dst_dtype));
  const auto width = static_cast<std::int64_t>(16 / size);
  const std::int64_t head = elements_before_vector(p.dst, size_of(p.dst_dtype), width);
  if (is_contiguous(nest) && head == elements_before_vector(p.src, size_of(p.src_dtype), width))
    return vectors;
  if (p.src_dtype == p.dst_dtype && transposed_dimension(nest) >= 0) return tiles;
  return fits_32(nest) ? units : by_element;
}

// --- Fill ---

/// The value as an element of its dtype. By the host's conversions: those of cast.cuh are device code.
template <class E>
E fill_value(const Fill& p) {
  if constexpr (std::is_integral_v<E>)
    return static_cast<E>(p.integer);
  else if constexpr (std::is_same_v<E, f16>)
    return to_f16(static_cast<float>(p.value));
  else if constexpr (std::is_same_v<E, bf16>)
    return to_bf16(static_cast<float>(p.value));
  else
    return static_cast<E>(p.value);
}

/// fn(bits of the value) with the unsigned type of the dtype's size.
template <class Fn>
Status by_fill_bits(const Fill& p, Fn&& fn) {
  return by_dtype(p.dtype, [&]<class E>(Type<E>) { return fn(std::bit_cast<Bits<sizeof(E)>>(fill_value<E>(p))); });
}

template <class Unit, class Index>
__global__ void __launch_bounds__(kThreads, 1) fill_walk(Walk<1, Index> walk, Unit value, Unit* dst) {
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < static_cast<std::int64_t>(walk.count);
       i += std::int64_t{gridDim.x} * kThreads) {
    std::int64_t at[1];
    walk.offsets(static_cast<Index>(i), at);
    dst[at[0]] = value;
  }
}

template <class Unit, class Index>
Status launch_fill(const LoopNest<1>& nest, Unit value, void* dst, Stream stream) {
  return launch(fill_walk<Unit, Index>, dim3(walking_blocks(nest.count(), kThreads)), dim3(kThreads), 0, stream,
                Walk<1, Index>(nest), value, static_cast<Unit*>(dst));
}

Status fill_by_element(const Fill& p, Stream stream) {
  const LoopNest<1> nest = fill_nest(p);
  if (nest.count() == 0) return {};
  return by_fill_bits(p, [&]<class T>(T value) {
    return launch_fill<T, std::int64_t>(nest, value, p.dst, stream);
  });
}

/// `value` as often as it fits into a Unit.
template <class Unit, class T>
Unit repeated(T value) {
  Pack<T, static_cast<int>(sizeof(Unit) / sizeof(T))> pack;
  for (T& element : pack.element) element = value;
  return std::bit_cast<Unit>(pack);
}

Status fill_units(const Fill& p, Stream stream) {
  LoopNest<1> nest = fill_nest(p);
  if (nest.count() == 0) return {};
  const void* const bases[] = {p.dst};
  const std::size_t unit = widen_units(nest, size_of(p.dtype), bases);
  if (!fits_32(nest)) return kTooMany;
  return by_fill_bits(p, [&]<class T>(T value) {
    if (unit == 16) return launch_fill<Bits16, std::uint32_t>(nest, repeated<Bits16>(value), p.dst, stream);
    if constexpr (sizeof(T) < 8)
      if (unit == 8)
        return launch_fill<std::uint64_t, std::uint32_t>(nest, repeated<std::uint64_t>(value), p.dst, stream);
    if constexpr (sizeof(T) < 4)
      if (unit == 4)
        return launch_fill<std::uint32_t, std::uint32_t>(nest, repeated<std::uint32_t>(value), p.dst, stream);
    if constexpr (sizeof(T) < 2)
      if (unit == 2)
        return launch_fill<std::uint16_t, std::uint32_t>(nest, repeated<std::uint16_t>(value), p.dst, stream);
    return launch_fill<T, std::uint32_t>(nest, value, p.dst, stream);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) fill_vectors(Span span, T value, T* dst) {
  constexpr int width = kVector<T>;
  const std::int64_t pieces = span.vectors + span.singles;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < pieces;
       i += std::int64_t{gridDim.x} * kThreads) {
    if (i < span.vectors) {
      Pack<T, width> pack;
#pragma unroll
      for (int k = 0; k < width; ++k) pack.element[k] = value;
      *reinterpret_cast<Pack<T, width>*>(dst + span.head + i * width) = pack;
    } else {
      dst[single_element(span, width, i - span.vectors)] = value;
    }
  }
}

Status fill_contiguous(const Fill& p, Stream stream) {
  const LoopNest<1> nest = fill_nest(p);
  if (nest.count() == 0) return {};
  if (!is_contiguous(nest)) return unsupported("dst must be contiguous");
  const auto width = static_cast<std::int64_t>(16 / size_of(p.dtype));
  const Span span = make_span(nest.count(), elements_before_vector(p.dst, size_of(p.dtype), width), width);
  return by_fill_bits(p, [&]<class T>(T value) {
    return launch(fill_vectors<T>, dim3(walking_blocks(span.pieces(), kThreads)), dim3(kThreads), 0, stream, span,
                  value, static_cast<T*>(p.dst));
  });
}

constexpr Variant fill_variants[] = {
    {"by_element", "a thread for each element, 64-bit divisions", "not yet measured",
     erased_run<Fill, fill_by_element>},
    {"units", "multiplications instead of divisions, units of up to 16 bytes", "not yet measured",
     erased_run<Fill, fill_units>},
    {"vectors", "contiguous: 16 bytes a thread", "not yet measured", erased_run<Fill, fill_contiguous>},
};

int select_fill(const Fill& p) {
  enum { by_element, units, vectors };
  const LoopNest<1> nest = fill_nest(p);
  if (is_contiguous(nest)) return vectors;
  return fits_32(nest) ? units : by_element;
}

constexpr KernelEntry entries[] = {
    entry<Copy, check, no_workspace<Copy>, select_copy>(copy_variants),
    entry<Fill, check, no_workspace<Fill>, select_fill>(fill_variants),
};

}  // namespace

extern const Family copy_family;
const Family copy_family = family(entries);

}  // namespace sinter::kernels::cuda
