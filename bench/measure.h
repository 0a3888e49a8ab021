// What the benchmarks share: aligned arrays of random numbers, and the time of the fastest of many calls.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <new>

#include "kernels/base/dtype.h"
#include "kernels/base/host_device.h"

namespace sinter::bench {

/// n elements of f32 or f64, allocated as core allocates them, with a triangular distribution on (-1, 1).
struct Array {
  Array(std::int64_t n, kernels::Dtype dtype, unsigned seed)
      : bytes(static_cast<std::size_t>(n) * size_of(dtype)),
        memory(allocate(bytes), [](void* block) { kernels::host_device_api().deallocate(0, block); }) {
    std::uint64_t state = seed;
    const auto uniform = [&] {  // a linear congruential generator (Knuth's MMIX constants): fast, and good enough here
      state = state * 6364136223846793005u + 1442695040888963407u;
      return static_cast<double>(state >> 11) * 0x1p-53;
    };
    for (std::int64_t i = 0; i < n; ++i) {
      const double x = uniform() - uniform();
      if (dtype == kernels::Dtype::f64)
        static_cast<double*>(memory.get())[i] = x;
      else
        static_cast<float*>(memory.get())[i] = static_cast<float>(x);
    }
  }
  void* data() const { return memory.get(); }
  static void* allocate(std::size_t bytes) {
    void* block = nullptr;
    if (!kernels::host_device_api().allocate(0, bytes, &block).ok()) throw std::bad_alloc();
    return block;
  }

  std::size_t bytes;
  std::unique_ptr<void, void (*)(void*)> memory;
};

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds of the fastest call among those that fit into 15 ms: long enough for the threads of a rival's OpenMP
/// runtime, which spin for milliseconds after their last call, to fall asleep.
template <class Fn>
double fastest_call(Fn&& call) {
  const double end = seconds_now() + 15e-3;
  double fastest = HUGE_VAL;
  for (double begin = seconds_now(); begin < end;) {
    call();
    const double now = seconds_now();
    fastest = std::min(fastest, now - begin);
    begin = now;
  }
  return fastest;
}

}  // namespace sinter::bench
