// What every backend's DeviceApi must do, on any of its devices.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "kernels/base/kernel.h"
#include "tests/kernels/graph_cases.h"

namespace sinter::kernels {

inline void expect_ok(Status status) { EXPECT_TRUE(status.ok()) << status.what; }

/// Host to device, inside the device, part of it, and back; on a stream of its own.
inline void check_copies_and_fills(const DeviceApi& api, int device) {
  std::vector<std::uint8_t> from(1000), to(1000, 7);
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::uint8_t>(i * 37);
  Stream stream;
  expect_ok(api.create_stream(device, &stream));
  void *a = nullptr, *b = nullptr;
  expect_ok(api.allocate(device, from.size(), &a));
  expect_ok(api.allocate(device, from.size(), &b));
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a) % 64, 0u);
  expect_ok(api.copy(device, a, from.data(), from.size(), stream));
  expect_ok(api.copy(device, b, a, from.size(), stream));
  expect_ok(api.fill(device, static_cast<std::uint8_t*>(b) + 10, 0xab, 5, stream));
  expect_ok(api.copy(device, to.data(), b, to.size(), stream));
  expect_ok(api.synchronize(device, stream));
  for (std::size_t i = 10; i < 15; ++i) from[i] = 0xab;
  EXPECT_EQ(to, from);
  expect_ok(api.copy(device, a, nullptr, 0, stream));
  api.deallocate(device, a);
  api.deallocate(device, b);
  api.deallocate(device, nullptr);
  api.destroy_stream(device, stream);
  api.destroy_stream(device, {});
}

/// Pinned memory, and one stream that waits for what another one does.
inline void check_events(const DeviceApi& api, int device) {
  Stream writer, reader;
  Event written, never;
  void *pinned = nullptr, *memory = nullptr;
  expect_ok(api.create_stream(device, &writer));
  expect_ok(api.create_stream(device, &reader));
  expect_ok(api.create_event(device, &written));
  expect_ok(api.create_event(device, &never));
  expect_ok(api.allocate_host(device, 4, &pinned));
  expect_ok(api.allocate(device, 4, &memory));
  for (const int value : {1, 2}) {  // the second round records the event anew
    expect_ok(api.fill(device, memory, value, 4, writer));
    expect_ok(api.record_event(device, written, writer));
    expect_ok(api.wait_event(device, reader, written));
    expect_ok(api.copy(device, pinned, memory, 4, reader));
    expect_ok(api.synchronize(device, reader));
    EXPECT_EQ(*static_cast<std::uint32_t*>(pinned), 0x01010101u * static_cast<unsigned>(value));
  }
  expect_ok(api.fill(device, memory, 3, 4, writer));
  expect_ok(api.copy(device, pinned, memory, 4, writer));
  expect_ok(api.record_event(device, written, writer));
  expect_ok(api.synchronize_event(device, written));
  EXPECT_EQ(*static_cast<std::uint32_t*>(pinned), 0x03030303u);
  expect_ok(api.wait_event(device, reader, never));
  expect_ok(api.synchronize_event(device, never));
  // The stream goes before the event that stands for its end, and before the stream that waits for it.
  expect_ok(api.wait_event(device, reader, written));
  api.destroy_stream(device, writer);
  expect_ok(api.synchronize_event(device, written));
  expect_ok(api.synchronize(device, reader));
  api.destroy_event(device, written);
  api.destroy_event(device, never);
  api.destroy_event(device, {});
  api.destroy_stream(device, reader);
  api.deallocate(device, memory);
  api.deallocate_host(device, pinned);
  api.deallocate_host(device, nullptr);
}

enum class Graphs { there, not_there };

inline void check_device_api(const BackendModule& module, Graphs graphs) {
  ASSERT_EQ(module.abi, kBackendAbi);
  const DeviceApi& api = *module.device;
  ASSERT_GT(api.device_count(), 0) << api.why_unavailable();
  EXPECT_STREQ(api.why_unavailable(), "");
  for (int device = 0; device < api.device_count(); ++device) {
    EXPECT_STRNE(api.device_name(device), "");
    check_copies_and_fills(api, device);
    check_events(api, device);
    if (graphs == Graphs::there)
      check_graphs(module, device);
    else
      check_that_there_are_no_graphs(api, device);
  }
}

}  // namespace sinter::kernels
