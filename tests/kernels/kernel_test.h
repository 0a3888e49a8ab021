// What the kernel tests share: guarded buffers, random data, comparison with the reference, both instruction sets.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/runtime/thread_pool.h"
#include "kernels/base/dtype.h"
#include "kernels/base/kernel.h"

namespace sinter::kernels::testing {

/// n elements between two guard zones; filled with 0xff bytes (NaN for floating types), so what a kernel forgot to write
/// shows. `expect_guards_intact()` runs in the destructor too.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::int64_t n) : n_(n), bytes_(kGuard + static_cast<std::size_t>(n) * sizeof(T) + kGuard) {
    bytes_ = (bytes_ + 63) / 64 * 64;
    memory_ = static_cast<unsigned char*>(std::aligned_alloc(64, bytes_));
    std::memset(memory_, 0xff, bytes_);
    std::memset(memory_, kPattern, kGuard);
    std::memset(memory_ + end(), kPattern, bytes_ - end());
  }
  ~Buffer() {
    if (memory_ != nullptr) expect_guards_intact();
    std::free(memory_);
  }
  Buffer(Buffer&& other) noexcept : n_(other.n_), bytes_(other.bytes_), memory_(std::exchange(other.memory_, nullptr)) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return reinterpret_cast<T*>(memory_ + kGuard); }
  const T* data() const { return reinterpret_cast<const T*>(memory_ + kGuard); }
  std::int64_t size() const { return n_; }
  T& operator[](std::int64_t i) { return data()[i]; }
  const T& operator[](std::int64_t i) const { return data()[i]; }
  std::span<const T> span() const { return {data(), static_cast<std::size_t>(n_)}; }
  void fill(T value) { std::fill(data(), data() + n_, value); }
  void assign(const Buffer& other) { std::memcpy(data(), other.data(), static_cast<std::size_t>(n_) * sizeof(T)); }

  void expect_guards_intact() const {
    for (std::size_t i = 0; i < kGuard; ++i) ASSERT_EQ(memory_[i], kPattern) << "write before the buffer, byte " << i;
    for (std::size_t i = end(); i < bytes_; ++i)
      ASSERT_EQ(memory_[i], kPattern) << "write behind the buffer, byte " << i - end();
  }

 private:
  static constexpr std::size_t kGuard = 128;
  static constexpr unsigned char kPattern = 0xa5;
  std::size_t end() const { return kGuard + static_cast<std::size_t>(n_) * sizeof(T); }
  std::int64_t n_;
  std::size_t bytes_;
  unsigned char* memory_ = nullptr;
};

/// Normal random numbers, the same for the same seed.
template <class T>
Buffer<T> random_buffer(std::int64_t n, unsigned seed, double mean = 0, double stddev = 1) {
  Buffer<T> buffer(n);
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal(mean, stddev);
  for (std::int64_t i = 0; i < n; ++i) buffer[i] = static_cast<T>(normal(generator));
  return buffer;
}

inline std::string to_string(const Status& status) { return std::string(status.what); }

template <class P>
::testing::AssertionResult run_ok(const BackendModule& module, const P& params, Stream stream = {}, int variant = -1) {
  const Status status = run(module, params, stream, variant);
  if (status.ok()) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << module.name << " " << name(P::id) << ": " << status.what;
}

/// |actual - expected| <= tolerance * max(floor, largest |expected|) for every element. Derive the tolerance: units in
/// the last place of T times what the reduction length explains.
template <class T, class U>
void expect_close(std::span<const T> actual, std::span<const U> expected, double tolerance, const std::string& what,
                  double floor = 1e-30) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double largest = floor;
  for (const U x : expected)
    if (std::isfinite(static_cast<double>(x))) largest = std::max(largest, std::abs(static_cast<double>(x)));
  std::size_t worst = 0;
  double worst_error = -1;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = static_cast<double>(actual[i]), e = static_cast<double>(expected[i]);
    if (std::isnan(e) && std::isnan(a)) continue;
    if (a == e) continue;
    double error = std::abs(a - e);
    if (std::isnan(error)) error = HUGE_VAL;
    if (error > worst_error) {
      worst = i;
      worst_error = error;
    }
  }
  if (worst_error < 0) return;
  EXPECT_LE(worst_error, tolerance * largest) << what << ": element " << worst << " is "
                                              << static_cast<double>(actual[worst]) << ", expected "
                                              << static_cast<double>(expected[worst]) << " (largest " << largest << ")";
}

template <class T>
void expect_same_bits(const Buffer<T>& a, const Buffer<T>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (std::int64_t i = 0; i < a.size(); ++i)
    ASSERT_EQ(std::memcmp(a.data() + i, b.data() + i, sizeof(T)), 0) << what << ": bits differ at element " << i;
}

/// Runs fn(module, isa name) for each instruction set that this machine has.
template <class Fn>
void for_each_cpu(Fn&& fn) {
  for (const CpuIsa isa : {CpuIsa::avx2, CpuIsa::avx512})
    if (const BackendModule* module = cpu_module(isa)) {
      SCOPED_TRACE(name(isa));
      fn(*module);
    }
}

/// Unit roundoff of T.
template <class T>
inline constexpr double kUlp = sizeof(T) == 4 ? 5.96e-8 : 1.11e-16;

}  // namespace sinter::kernels::testing
