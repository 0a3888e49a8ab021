#include "core/runtime/staging.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <functional>
#include <span>
#include <vector>

namespace sinter {
namespace {

using kernels::Status;

// A device on host memory whose stream does its work when somebody waits for it, and not before.
struct LateDevice {
  static inline std::deque<std::function<void()>> pending;
  static inline std::size_t done = 0;
  static inline int waits = 0;   // for work that was still to be done

  static void run_until(std::size_t position) {
    if (done < position) ++waits;
    for (; done < position; ++done, pending.pop_front()) pending.front()();
  }
  static kernels::DeviceApi api() {
    kernels::DeviceApi api = *kernels::cpu_module().device;
    api.copy = [](int, void* dst, const void* src, std::size_t bytes, kernels::Stream) {
      pending.push_back([=] { std::memcpy(dst, src, bytes); });
      return Status{};
    };
    api.create_event = [](int, kernels::Event* event) { return event->handle = new std::size_t(0), Status{}; };
    api.destroy_event = [](int, kernels::Event event) { delete static_cast<std::size_t*>(event.handle); };
    api.record_event = [](int, kernels::Event event, kernels::Stream) {
      *static_cast<std::size_t*>(event.handle) = done + pending.size();
      return Status{};
    };
    api.synchronize_event = [](int, kernels::Event event) {
      run_until(*static_cast<std::size_t*>(event.handle));
      return Status{};
    };
    api.deallocate_host = [](int, void* memory) {
      run_until(done + pending.size());
      std::free(memory);
    };
    return api;
  }
};

TEST(StagingBuffer, TakesOverWhatItIsGivenAndWaitsOnlyWhenFull) {
  const kernels::DeviceApi api = LateDevice::api();
  constexpr std::size_t kCopies = 3000, kMost = 4000;   // about six halves
  std::vector<std::vector<unsigned char>> targets(kCopies), expected(kCopies);
  {
    StagingBuffer staging(api, 0, {});
    for (std::size_t i = 0; i < kCopies; ++i) {
      std::vector<unsigned char> source(1 + i * 37 % kMost);
      for (std::size_t b = 0; b < source.size(); ++b) source[b] = static_cast<unsigned char>(i * 7 + b);
      targets[i].resize(source.size());
      expected[i] = source;
      const HostBytes piece = std::as_bytes(std::span(source));
      ASSERT_TRUE(StagingBuffer::takes({&piece, 1}));
      ASSERT_TRUE(staging.copy(targets[i].data(), {&piece, 1}).ok());
      std::fill(source.begin(), source.end(), static_cast<unsigned char>(0));   // the caller's memory is its own again
    }
    EXPECT_GE(LateDevice::waits, 3);
    EXPECT_LE(LateDevice::waits, 6);
  }
  EXPECT_EQ(targets, expected);
}

TEST(StagingBuffer, TakesNothingLarge) {
  const std::vector<std::byte> memory(StagingBuffer::kHalf / 4);
  const HostBytes most(memory);
  EXPECT_TRUE(StagingBuffer::takes({&most, 1}));
  const HostBytes more[] = {most.first(most.size() - 64), most.first(65)};
  EXPECT_FALSE(StagingBuffer::takes(more));
}

}  // namespace
}  // namespace sinter
