// What the tests of strided kernels on the CPU share: untyped buffers and random elements of any dtype.
#pragma once

#include "kernels/ref/element.h"
#include "tests/kernels/kernel_test.h"
#include "tests/kernels/layouts.h"

namespace sinter::kernels::testing {

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
