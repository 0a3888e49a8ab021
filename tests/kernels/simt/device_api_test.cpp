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
    check_device_api(simt_module());
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

}  // namespace
}  // namespace sinter::kernels
