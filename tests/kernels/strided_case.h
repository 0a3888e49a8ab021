// What the tests of strided kernels share: layouts of a shape, untyped buffers, random elements of any dtype.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "kernels/base/strided.h"
#include "kernels/ref/element.h"
#include "tests/kernels/kernel_test.h"

namespace sinter::kernels::testing {

inline constexpr Dtype kAllDtypes[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16,
                                       Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean};

inline Extents make_extents(std::initializer_list<std::int64_t> sizes) {
  Extents extents;
  for (const std::int64_t n : sizes) extents.size[extents.rank++] = n;
  return extents;
}

/// How an operand lies in memory.
enum class Layout { contiguous, transposed, sliced, broadcast, scalar };
inline constexpr Layout kAllLayouts[] = {Layout::contiguous, Layout::transposed, Layout::sliced, Layout::broadcast,
                                         Layout::scalar};
inline constexpr Layout kWritableLayouts[] = {Layout::contiguous, Layout::transposed, Layout::sliced};

inline const char* name(Layout layout) {
  constexpr const char* names[] = {"contiguous", "transposed", "sliced", "broadcast", "scalar"};
  return names[static_cast<int>(layout)];
}

/// Strides of the layout: transposed = dimensions in reverse order in memory, sliced = every second element of rows that
/// are 3 longer, broadcast = step 0 along the first dimension and every second one after it, scalar = all 0.
inline Strides make_strides(const Extents& extents, Layout layout) {
  Strides strides = contiguous_strides(extents);
  std::int64_t step = 1;
  switch (layout) {
    case Layout::contiguous: break;
    case Layout::transposed:
      for (int d = 0; d < extents.rank; ++d) {
        strides.step[d] = step;
        step *= extents.size[d];
      }
      break;
    case Layout::sliced:
      step = 2;
      for (int d = extents.rank - 1; d >= 0; --d) {
        strides.step[d] = step;
        step *= extents.size[d] + 3;
      }
      break;
    case Layout::broadcast:
      for (int d = extents.rank - 1; d >= 0; --d) {
        strides.step[d] = d % 2 == 0 ? 0 : step;
        if (d % 2 != 0) step *= extents.size[d];
      }
      break;
    case Layout::scalar: strides = {}; break;
  }
  return strides;
}

/// Elements from the first to behind the last one that the strides reach; 0 for an empty shape.
inline std::int64_t span_of(const Extents& extents, const Strides& strides) {
  std::int64_t last = 0;
  for (int d = 0; d < extents.rank; ++d) {
    if (extents.size[d] == 0) return 0;
    last += (extents.size[d] - 1) * strides.step[d];
  }
  return last + 1;
}

/// n elements of a dtype that is known at run time; 0xff bytes at first, but 0 for booleans, which know 0 and 1 only.
class AnyBuffer {
 public:
  AnyBuffer(Dtype dtype, std::int64_t n) : dtype_(dtype), n_(n), bytes_(n * static_cast<std::int64_t>(size_of(dtype))) {
    if (dtype == Dtype::boolean) bytes_.fill(0);
  }

  Dtype dtype() const { return dtype_; }
  std::int64_t size() const { return n_; }
  void* data() { return bytes_.data(); }
  const void* data() const { return bytes_.data(); }
  double get(std::int64_t i) const { return ref::load(dtype_, data(), i); }
  void set(std::int64_t i, double x) { ref::store(dtype_, data(), i, x); }
  void set_integer(std::int64_t i, std::int64_t x) { ref::store_integer(dtype_, data(), i, x); }
  void assign(const AnyBuffer& other) { bytes_.assign(other.bytes_); }

  /// Same bytes, but any NaN equals any NaN.
  ::testing::AssertionResult same(const AnyBuffer& other) const {
    for (std::int64_t i = 0; i < n_; ++i) {
      const std::int64_t size = static_cast<std::int64_t>(size_of(dtype_));
      if (std::memcmp(bytes_.data() + i * size, other.bytes_.data() + i * size, size_of(dtype_)) == 0) continue;
      if (is_floating(dtype_) && std::isnan(get(i)) && std::isnan(other.get(i))) continue;
      return ::testing::AssertionFailure() << "element " << i << " of " << n_ << " (" << kernels::name(dtype_) << ") is "
                                           << get(i) << ", expected " << other.get(i);
    }
    return ::testing::AssertionSuccess();
  }

 private:
  Dtype dtype_;
  std::int64_t n_;
  Buffer<unsigned char> bytes_;
};

/// Random elements: floating ones normal with some NaN, infinities, zeros of both signs, ties and huge values where
/// `specials`; integers over their whole range where `specials`, else within +-50 (u8: 0 .. 50).
inline AnyBuffer random_any(Dtype dtype, std::int64_t n, unsigned seed, bool specials = false) {
  constexpr double kSpecials[] = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 0.5, 1.5, -1.5, 255.5, 3e9, -3e9, 1e19, -1e19,
                                  65519.0, 65520.0, 6e-8, 2.5e-5, 1e30, -0.99};
  AnyBuffer buffer(dtype, n);
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(0, 3);
  for (std::int64_t i = 0; i < n; ++i) {
    const bool special = specials && generator() % 8 == 0;
    if (is_floating(dtype))
      buffer.set(i, special ? kSpecials[generator() % std::size(kSpecials)] : normal(generator));
    else if (dtype == Dtype::boolean)
      buffer.set_integer(i, static_cast<std::int64_t>(generator() & 1));
    else if (special)
      buffer.set_integer(i, static_cast<std::int64_t>(generator()));
    else
      buffer.set_integer(i, static_cast<std::int64_t>(generator() % 51) * (dtype == Dtype::u8 || generator() % 2 ? 1 : -1));
  }
  return buffer;
}

}  // namespace sinter::kernels::testing
