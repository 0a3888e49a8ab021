#include "kernels/elementwise.h"

#include <algorithm>
#include <utility>

#include "kernels/base/by_dtype.cuh"
#include "kernels/base/cast.cuh"
#include "kernels/base/families.h"
#include "kernels/base/grid.cuh"
#include "kernels/base/walk.cuh"
#include "kernels/cuda/elementwise_ops.cuh"

namespace sinter::kernels::cuda {
namespace {

constexpr int kThreads = 256;
/// Elements of a thread where each is read on its own: so many reads are under way at once.
constexpr int kItems = 4;

// --- One function of N inputs, over any strides. Operand 0 of a nest is the output. ---

template <class F, class Out, class... In, std::size_t... K>
__device__ __forceinline__ Out element_at(const F& f, const std::int64_t (&at)[1 + sizeof...(In)],
                                          std::index_sequence<K...>, const In*... in) {
  return f(in[at[1 + K]]...);
}

template <class Index, class F, class Out, class... In>
__global__ void __launch_bounds__(kThreads, 1)
    each_element(Walk<1 + static_cast<int>(sizeof...(In)), Index> walk, F f, Out* out, const In*... in) {
  constexpr std::int64_t chunk = kThreads * kItems;
  const auto count = static_cast<std::int64_t>(walk.count);
  for (std::int64_t first = blockIdx.x * chunk + threadIdx.x; first < count; first += gridDim.x * chunk) {
    Out y[kItems];
    std::int64_t to[kItems];
#pragma unroll
    for (int k = 0; k < kItems; ++k) {
      if (first + k * kThreads >= count) break;
      std::int64_t at[1 + sizeof...(In)];
      walk.offsets(static_cast<Index>(first + k * kThreads), at);
      to[k] = at[0];
      y[k] = element_at<F, Out>(f, at, std::index_sequence_for<In...>{}, in...);
    }
#pragma unroll
    for (int k = 0; k < kItems; ++k)
      if (first + k * kThreads < count) out[to[k]] = y[k];
  }
}

template <class Index, class F, class Out, class... In>
Status run_elements(const LoopNest<1 + static_cast<int>(sizeof...(In))>& nest, Stream stream, F f, Out* out,
                    const In*... in) {
  return launch(each_element<Index, F, Out, In...>, dim3(walking_blocks(nest.count(), kThreads * kItems)),
                dim3(kThreads), 0, stream, Walk<1 + static_cast<int>(sizeof...(In)), Index>(nest), f, out, in...);
}

// --- The same in vectors ---

/// A walk over vectors of `width` elements of each operand, repeated ones (inner step 0) excepted. A walk of one
/// dimension may end in fewer than `width` single elements.
template <int N>
struct VectorWalk {
  Walk<N, std::uint32_t> walk;
  std::uint32_t singles = 0;
  bool repeats[N] = {};
};

/// How a nest is walked in vectors; `singles` as in VectorWalk.
template <int N>
struct VectorPlan {
  bool possible = false;
  LoopNest<N> nest;
  std::int64_t singles = 0;
};

/// Possible where every operand steps by 1 or 0 along the last dimension and each vector lies aligned.
template <int N>
VectorPlan<N> plan_vectors(const LoopNest<N>& nest, std::int64_t width, const void* const (&bases)[N],
                           const std::size_t (&sizes)[N]) {
  const int last = nest.rank - 1;
  VectorPlan<N> plan = {true, nest, nest.size[last] % width};
  if (nest.rank > 1 && plan.singles != 0) return {};
  for (int k = 0; k < N; ++k) {
    if (nest.step[k][last] == 0) continue;
    if (nest.step[k][last] != 1) return {};
    const std::size_t bytes = sizes[k] * static_cast<std::size_t>(width);
    if (reinterpret_cast<std::uintptr_t>(bases[k]) % bytes != 0) return {};
    for (int d = 0; d < last; ++d)
      if (nest.step[k][d] % width != 0) return {};
    plan.nest.step[k][last] = width;
  }
  plan.nest.size[last] /= width;
  return plan.nest.count() + plan.singles < std::int64_t{1} << 31 ? plan : VectorPlan<N>{};
}

template <int W, class T>
__device__ __forceinline__ Pack<T, W> read_pack(const T* p, bool repeats) {
  if (!repeats) return *reinterpret_cast<const Pack<T, W>*>(p);
  Pack<T, W> pack;
#pragma unroll
  for (int i = 0; i < W; ++i) pack.element[i] = *p;
  return pack;
}

template <int W, class Out, class F, class... In>
__device__ __forceinline__ Pack<Out, W> each_of(const F& f, const Pack<In, W>&... x) {
  Pack<Out, W> y;
#pragma unroll
  for (int i = 0; i < W; ++i) y.element[i] = f(x.element[i]...);
  return y;
}

template <int W, class F, class Out, class... In, std::size_t... K>
__device__ __forceinline__ Pack<Out, W> vector_at(const F& f, const std::int64_t (&at)[1 + sizeof...(In)],
                                                  const bool (&repeats)[1 + sizeof...(In)], std::index_sequence<K...>,
                                                  const In*... in) {
  return each_of<W, Out>(f, read_pack<W>(in + at[1 + K], repeats[1 + K])...);
}

template <int W, class F, class Out, class... In>
__global__ void __launch_bounds__(kThreads, 1)
    each_vector(VectorWalk<1 + static_cast<int>(sizeof...(In))> vectors, F f, Out* out, const In*... in) {
  constexpr int N = 1 + static_cast<int>(sizeof...(In));
  const std::uint32_t i = blockIdx.x * kThreads + threadIdx.x, whole = vectors.walk.count;
  std::int64_t at[N];
  if (i < whole) {
    vectors.walk.offsets(i, at);
    *reinterpret_cast<Pack<Out, W>*>(out + at[0]) =
        vector_at<W, F, Out>(f, at, vectors.repeats, std::index_sequence_for<In...>{}, in...);
  } else if (i - whole < vectors.singles) {
#pragma unroll
    for (int k = 0; k < N; ++k)
      at[k] = vectors.repeats[k] ? 0 : static_cast<std::int64_t>(whole) * W + (i - whole);
    out[at[0]] = element_at<F, Out>(f, at, std::index_sequence_for<In...>{}, in...);
  }
}

/// Elements in a vector of the widest of some types: 16 bytes.
template <class... T>
inline constexpr int kWidth = static_cast<int>(16 / std::max({sizeof(T)...}));

constexpr Status kNoVectors = unsupported("an operand does not lie in aligned vectors");

template <class F, class Out, class... In>
Status run_vectors(const LoopNest<1 + static_cast<int>(sizeof...(In))>& nest, Stream stream, F f, Out* out,
                   const In*... in) {
  constexpr int N = 1 + static_cast<int>(sizeof...(In)), width = kWidth<Out, In...>;
  const void* const bases[] = {out, in...};
  const std::size_t sizes[] = {sizeof(Out), sizeof(In)...};
  const VectorPlan<N> plan = plan_vectors(nest, width, bases, sizes);
  if (!plan.possible) return kNoVectors;
  VectorWalk<N> vectors = {Walk<N, std::uint32_t>(plan.nest), static_cast<std::uint32_t>(plan.singles), {}};
  for (int k = 0; k < N; ++k) vectors.repeats[k] = nest.step[k][nest.rank - 1] == 0;
  return launch(each_vector<width, F, Out, In...>, dim3(blocks_for(plan.nest.count() + plan.singles, kThreads)),
                dim3(kThreads), 0, stream, vectors, f, out, in...);
}

// --- Variants: the same three for each kernel ---

enum VariantIndex : int { by_element, divided, vectors };

constexpr const char* kIdeas[] = {
    "4 elements a thread, 64-bit divisions, the op looked at in the kernel",
    "multiplications instead of divisions",
    "16 bytes of the widest operand a thread, broadcast ones in registers; a kernel for each op of floating numbers",
};
constexpr Status kTooMany = unsupported("this variant counts fewer than 2^31 elements");

template <int N>
VariantIndex best_variant(const LoopNest<N>& nest, const void* const (&bases)[N], const std::size_t (&sizes)[N]) {
  const auto width = static_cast<std::int64_t>(16 / *std::max_element(sizes, sizes + N));
  if (plan_vectors(nest, width, bases, sizes).possible) return vectors;
  return fits_32(nest) ? divided : by_element;
}

// --- Unary ---

LoopNest<2> nest_of(const Unary& p) {
  const Strides out_strides = contiguous_strides(p.extents);
  const Strides* const operands[] = {&out_strides, &p.in_strides};
  return make_nest(p.extents, operands);
}

template <class T>
struct AnyUnary {
  UnaryOp op;
  Value<T> alpha;

  __device__ __forceinline__ T operator()(T x) const {
    return by_unary_op<T>(op, [&]<class Op>(Op) { return element_of<T>(Op::of(value_of(x), alpha)); });
  }
};

template <class T, class Op>
struct OneUnary {
  Value<T> alpha;

  __device__ __forceinline__ T operator()(T x) const { return element_of<T>(Op::of(value_of(x), alpha)); }
};

template <class T>
Value<T> alpha_of(const Unary& p) {
  if constexpr (std::is_integral_v<T>)
    return to_integer<T>(p.alpha);
  else
    return static_cast<Value<T>>(p.alpha);
}

/// fn(Type<T>{}) for the type that computes `dtype`: booleans as u8.
template <class Fn>
Status by_computing_type(Dtype dtype, Fn&& fn) {
  return by_dtype(dtype, [&]<class T>(Type<T>) {
    return fn(Type<std::conditional_t<std::is_same_v<T, bool>, std::uint8_t, T>>{});
  });
}

template <VariantIndex variant>
Status run_unary(const Unary& p, Stream stream) {
  const LoopNest<2> nest = nest_of(p);
  if (nest.count() == 0) return {};
  if (variant == divided && !fits_32(nest)) return kTooMany;
  return by_computing_type(p.dtype, [&]<class T>(Type<T>) {
    const auto in = static_cast<const T*>(p.in);
    const auto out = static_cast<T*>(p.out);
    const Value<T> alpha = alpha_of<T>(p);
    using Index = std::conditional_t<variant == by_element, std::int64_t, std::uint32_t>;
    if constexpr (variant != vectors) {
      return run_elements<Index>(nest, stream, AnyUnary<T>{p.op, alpha}, out, in);
    } else if constexpr (std::is_integral_v<T>) {
      return run_vectors(nest, stream, AnyUnary<T>{p.op, alpha}, out, in);
    } else {
      if (p.op == UnaryOp::pow_scalar && p.alpha == 2)
        return run_vectors(nest, stream, OneUnary<T, Square>{alpha}, out, in);
      return by_unary_op<T>(p.op, [&]<class Op>(Op) {
        return run_vectors(nest, stream, OneUnary<T, Op>{alpha}, out, in);
      });
    }
  });
}

Status supports_unary(const Unary& p) {
  if (const Status status = check(p); !status.ok()) return status;
  const bool integer = p.dtype == Dtype::i64 || p.dtype == Dtype::i32;
  const bool fits = p.op == UnaryOp::logical_not ? p.dtype == Dtype::boolean
                                                 : is_floating(p.dtype) || (integer && takes_integers(p.op));
  return fits ? Status{} : unsupported("this unary op has no such dtype");
}

int select_unary(const Unary& p) {
  const std::size_t size = size_of(p.dtype);
  return best_variant<2>(nest_of(p), {p.out, p.in}, {size, size});
}

// --- Binary ---

LoopNest<3> nest_of(const Binary& p) {
  const Strides out_strides = contiguous_strides(p.extents);
  const Strides* const operands[] = {&out_strides, &p.a_strides, &p.b_strides};
  return make_nest(p.extents, operands);
}

template <class T>
struct AnyArithmetic {
  BinaryOp op;

  __device__ __forceinline__ T operator()(T a, T b) const {
    return by_arithmetic_op(op, [&]<class Op>(Op) { return element_of<T>(Op::of(value_of(a), value_of(b))); });
  }
};
template <class T, class Op>
struct OneArithmetic {
  __device__ __forceinline__ T operator()(T a, T b) const {
    return element_of<T>(Op::of(value_of(a), value_of(b)));
  }
};

template <class T>
struct AnyComparison {
  BinaryOp op;

  __device__ __forceinline__ std::uint8_t operator()(T a, T b) const {
    return by_comparison(op, [&]<class Op>(Op) { return Op::of(value_of(a), value_of(b)); });
  }
};

struct AnyLogical {
  BinaryOp op;

  __device__ __forceinline__ std::uint8_t operator()(std::uint8_t a, std::uint8_t b) const {
    return by_logical_op(op, [&]<class Op>(Op) { return Op::of(a, b); });
  }
};

template <VariantIndex variant, class T>
Status run_comparison(const Binary& p, const LoopNest<3>& nest, Stream stream) {
  const auto a = static_cast<const T*>(p.a), b = static_cast<const T*>(p.b);
  const auto out = static_cast<std::uint8_t*>(p.out);
  using Index = std::conditional_t<variant == by_element, std::int64_t, std::uint32_t>;
  if constexpr (variant != vectors)
    return run_elements<Index>(nest, stream, AnyComparison<T>{p.op}, out, a, b);
  else
    return run_vectors(nest, stream, AnyComparison<T>{p.op}, out, a, b);
}

template <VariantIndex variant, class T>
Status run_arithmetic(const Binary& p, const LoopNest<3>& nest, Stream stream) {
  const auto a = static_cast<const T*>(p.a), b = static_cast<const T*>(p.b);
  const auto out = static_cast<T*>(p.out);
  using Index = std::conditional_t<variant == by_element, std::int64_t, std::uint32_t>;
  if constexpr (variant != vectors)
    return run_elements<Index>(nest, stream, AnyArithmetic<T>{p.op}, out, a, b);
  else if constexpr (std::is_integral_v<T>)
    return run_vectors(nest, stream, AnyArithmetic<T>{p.op}, out, a, b);
  else
    return by_arithmetic_op(p.op, [&]<class Op>(Op) {
      return run_vectors(nest, stream, OneArithmetic<T, Op>{}, out, a, b);
    });
}

template <VariantIndex variant>
Status run_logical(const Binary& p, const LoopNest<3>& nest, Stream stream) {
  const auto a = static_cast<const std::uint8_t*>(p.a), b = static_cast<const std::uint8_t*>(p.b);
  const auto out = static_cast<std::uint8_t*>(p.out);
  using Index = std::conditional_t<variant == by_element, std::int64_t, std::uint32_t>;
  if constexpr (variant != vectors)
    return run_elements<Index>(nest, stream, AnyLogical{p.op}, out, a, b);
  else
    return run_vectors(nest, stream, AnyLogical{p.op}, out, a, b);
}

template <VariantIndex variant>
Status run_binary(const Binary& p, Stream stream) {
  const LoopNest<3> nest = nest_of(p);
  if (nest.count() == 0) return {};
  if (variant == divided && !fits_32(nest)) return kTooMany;
  if (is_logical(p.op)) return run_logical<variant>(p, nest, stream);
  return by_computing_type(p.dtype, [&]<class T>(Type<T>) {
    if (is_comparison(p.op)) return run_comparison<variant, T>(p, nest, stream);
    if constexpr (std::is_same_v<T, std::uint8_t>)
      return unsupported("there is no arithmetic of bytes");
    else
      return run_arithmetic<variant, T>(p, nest, stream);
  });
}

Status supports_binary(const Binary& p) {
  if (const Status status = check(p); !status.ok()) return status;
  const bool number = p.dtype != Dtype::boolean && p.dtype != Dtype::u8;
  const bool fits = is_logical(p.op) ? p.dtype == Dtype::boolean : is_comparison(p.op) || number;
  return fits ? Status{} : unsupported("this binary op has no such dtype");
}

int select_binary(const Binary& p) {
  const std::size_t size = size_of(p.dtype);
  return best_variant<3>(nest_of(p), {p.out, p.a, p.b}, {is_comparison(p.op) ? 1 : size, size, size});
}

// --- Where ---

LoopNest<4> nest_of(const Where& p) {
  const Strides out_strides = contiguous_strides(p.extents);
  const Strides* const operands[] = {&out_strides, &p.condition_strides, &p.a_strides, &p.b_strides};
  return make_nest(p.extents, operands);
}

template <class T>
struct Choose {
  __device__ __forceinline__ T operator()(std::uint8_t condition, T a, T b) const { return condition != 0 ? a : b; }
};

template <VariantIndex variant>
Status run_where(const Where& p, Stream stream) {
  const LoopNest<4> nest = nest_of(p);
  if (nest.count() == 0) return {};
  if (variant == divided && !fits_32(nest)) return kTooMany;
  return by_bits(p.dtype, [&]<class T>(Type<T>) {
    const auto condition = static_cast<const std::uint8_t*>(p.condition);
    const auto a = static_cast<const T*>(p.a), b = static_cast<const T*>(p.b);
    const auto out = static_cast<T*>(p.out);
    using Index = std::conditional_t<variant == by_element, std::int64_t, std::uint32_t>;
    if constexpr (variant != vectors)
      return run_elements<Index>(nest, stream, Choose<T>{}, out, condition, a, b);
    else
      return run_vectors(nest, stream, Choose<T>{}, out, condition, a, b);
  });
}

int select_where(const Where& p) {
  const std::size_t size = size_of(p.dtype);
  return best_variant<4>(nest_of(p), {p.out, p.condition, p.a, p.b}, {size, 1, size, size});
}

constexpr Variant unary_variants[] = {
    {"by_element", kIdeas[by_element], "not yet measured", erased_run<Unary, run_unary<by_element>>},
    {"divided", kIdeas[divided], "not yet measured", erased_run<Unary, run_unary<divided>>},
    {"vectors", kIdeas[vectors], "not yet measured", erased_run<Unary, run_unary<vectors>>},
};
constexpr Variant binary_variants[] = {
    {"by_element", kIdeas[by_element], "not yet measured", erased_run<Binary, run_binary<by_element>>},
    {"divided", kIdeas[divided], "not yet measured", erased_run<Binary, run_binary<divided>>},
    {"vectors", kIdeas[vectors], "not yet measured", erased_run<Binary, run_binary<vectors>>},
};
constexpr Variant where_variants[] = {
    {"by_element", kIdeas[by_element], "not yet measured", erased_run<Where, run_where<by_element>>},
    {"divided", kIdeas[divided], "not yet measured", erased_run<Where, run_where<divided>>},
    {"vectors", kIdeas[vectors], "not yet measured", erased_run<Where, run_where<vectors>>},
};
constexpr KernelEntry entries[] = {
    entry<Unary, supports_unary, no_workspace<Unary>, select_unary>(unary_variants),
    entry<Binary, supports_binary, no_workspace<Binary>, select_binary>(binary_variants),
    entry<Where, check, no_workspace<Where>, select_where>(where_variants),
};

}  // namespace

extern const Family elementwise_family;
const Family elementwise_family = family(entries);

}  // namespace sinter::kernels::cuda
