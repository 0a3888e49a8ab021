// The emulated devices behind the table that every backend has.
#include "tests/kernels/device_api_cases.h"

#include "kernels/simt/device.h"
#include "kernels/simt/module.h"

namespace sinter::kernels {
namespace {

/// Streams of every device are lazy for its lifetime.
class LazyStreams {
 public:
  explicit LazyStreams(bool on) { set(on); }
  ~LazyStreams() { set(false); }

 private:
  static void set(bool on) {
    for (int i = 0; i < simt_module().device->device_count(); ++i) simt::Device::get(i).options.lazy_streams = on;
  }
};

TEST(DeviceApi, OfTheEmulation) {
  for (const bool lazy : {false, true}) {
    const LazyStreams streams(lazy);
    check_device_api(simt_module(), Graphs::there);
  }
}

TEST(DeviceApi, CopiesBetweenEmulatedDevices) {
  const DeviceApi& api = *simt_module().device;
  const LazyStreams eager(false);
  const std::vector<std::uint8_t> from = {1, 2, 3, 4};
  std::vector<std::uint8_t> to(4);
  Stream stream;
  void *first = nullptr, *second = nullptr;
  expect_ok(api.create_stream(1, &stream));
  expect_ok(api.allocate(0, 4, &first));
  expect_ok(api.allocate(1, 4, &second));
  expect_ok(api.copy(1, first, from.data(), 4, stream));   // any device's memory, in any device's stream
  expect_ok(api.copy(1, second, first, 4, stream));
  expect_ok(api.copy(1, to.data(), second, 4, stream));
  expect_ok(api.synchronize(1, stream));
  EXPECT_EQ(to, from);
  EXPECT_EQ(api.copy(1, second, static_cast<std::uint8_t*>(first) + 2, 4, stream).code, StatusCode::device_error);
  api.destroy_stream(1, stream);
  api.deallocate(0, first);
  api.deallocate(1, second);
}

// What a call without an answer ran into is told by the next one that has one.
TEST(DeviceApi, LosesNoFault) {
  const DeviceApi& api = *simt_module().device;
  const LazyStreams lazy(true);
  Stream stream;
  void* memory = nullptr;
  expect_ok(api.create_stream(0, &stream));
  expect_ok(api.allocate(0, 4, &memory));
  expect_ok(api.fill(0, memory, 0, 5, stream));
  api.deallocate(0, memory);
  const Status status = api.synchronize(0, stream);
  EXPECT_EQ(status.code, StatusCode::device_error);
  EXPECT_STREQ(status.what, "fill of 5 bytes leaves a device buffer");
  expect_ok(api.synchronize(0, stream));
  api.destroy_stream(0, stream);
}

// A launch is what a stream's other works are: lazy, and stopped by the first fault.
TEST(DeviceApi, GraphsRunWhenSomebodyWaits) {
  const LazyStreams lazy(true);
  GraphCase c(simt_module(), 0);
  const Graph graph = c.captured([&] { c.put_step(); });
  const std::uint64_t before = simt::Device::get(0).statistics.launches;
  for (int i = 0; i < 3; ++i) c.launch(graph);
  EXPECT_EQ(simt::Device::get(0).statistics.launches, before);
  expect_ok(c.api.synchronize(0, c.stream));
  EXPECT_EQ(simt::Device::get(0).statistics.launches, before + 6);
  c.launch(graph);
  c.api.destroy_graph(0, graph);   // waits
  EXPECT_EQ(simt::Device::get(0).statistics.launches, before + 8);
}

TEST(DeviceApi, AGraphWhoseMemoryIsGoneFaults) {
  const LazyStreams eager(false);
  GraphCase c(simt_module(), 0);
  void* memory = nullptr;
  expect_ok(c.api.allocate(0, 64, &memory));
  const Graph graph = c.captured([&] { expect_ok(c.api.fill(0, memory, 1, 64, c.stream)); });
  c.launch(graph);
  c.api.deallocate(0, memory);
  EXPECT_EQ(c.api.launch_graph(0, graph, c.stream).code, StatusCode::device_error);
  c.api.destroy_graph(0, graph);
  c.expect_usable();
}

TEST(DeviceApi, ACaptureBeginsAfterNoLostFault) {
  const LazyStreams lazy(true);
  GraphCase c(simt_module(), 0);
  Stream other;
  expect_ok(c.api.create_stream(0, &other));
  expect_ok(c.api.fill(0, c.x, 0, GraphCase::kBytes + 1, other));
  c.api.destroy_stream(0, other);
  EXPECT_EQ(c.api.begin_capture(0, c.stream).code, StatusCode::device_error);
  c.expect_usable();
}

}  // namespace
}  // namespace sinter::kernels
