#include "core/runtime/uploader.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

namespace sinter {
namespace {

using kernels::Event;
using kernels::Status;
using kernels::Stream;

// A device on host memory with queues. An eager one does its work as soon as it may, the others when somebody waits.
struct Queue {
  std::deque<std::function<void()>> work;
  std::size_t done = 0;
  bool eager = false;

  void run_until(std::size_t position) {
    while (done < position) {
      const std::function<void()> next = std::move(work.front());
      work.pop_front();
      ++done;
      next();
    }
  }
  std::size_t end() const { return done + work.size(); }
  void push(std::function<void()> item) {
    work.push_back(std::move(item));
    if (eager) run_until(end());
  }
  Stream stream() { return {this}; }
};
Queue& queue_of(Stream stream) { return *static_cast<Queue*>(stream.handle); }

struct Point {
  Queue* queue = nullptr;
  std::size_t position = 0;
};
Point& point_of(Event event) { return *static_cast<Point*>(event.handle); }

struct FakeDevice {
  static inline bool copies_are_eager = false, cheap = false;
  static inline int transfers = 0;
  static inline int waits_of_copies = 0;   // for the computation
  static inline Queue* copies = nullptr;

  static kernels::DeviceApi api() {
    transfers = waits_of_copies = 0;
    kernels::DeviceApi api = *kernels::cpu_module().device;
    api.cheap_allocation = [] { return cheap; };
    api.create_stream = [](int, Stream* stream) {
      copies = new Queue{.eager = copies_are_eager};
      *stream = copies->stream();
      return Status{};
    };
    api.destroy_stream = [](int, Stream stream) {
      if (stream.handle == nullptr) return;
      queue_of(stream).run_until(queue_of(stream).end());
      delete &queue_of(stream);
    };
    api.copy = [](int, void* dst, const void* src, std::size_t bytes, Stream stream) {
      ++transfers;
      queue_of(stream).push([=] { std::memcpy(dst, src, bytes); });
      return Status{};
    };
    api.create_event = [](int, Event* event) { return event->handle = new Point, Status{}; };
    api.destroy_event = [](int, Event event) {
      if (event.handle != nullptr) delete &point_of(event);
    };
    api.record_event = [](int, Event event, Stream stream) {
      point_of(event) = {&queue_of(stream), queue_of(stream).end()};
      return Status{};
    };
    api.wait_event = [](int, Stream stream, Event event) {
      waits_of_copies += &queue_of(stream) == copies ? 1 : 0;
      queue_of(stream).push([until = point_of(event)] { until.queue->run_until(until.position); });
      return Status{};
    };
    api.synchronize_event = [](int, Event event) {
      if (point_of(event).queue != nullptr) point_of(event).queue->run_until(point_of(event).position);
      return Status{};
    };
    api.deallocate_host = [](int, void* memory) {
      copies->run_until(copies->end());
      std::free(memory);
    };
    return api;
  }
};

#ifdef __SANITIZE_ADDRESS__
constexpr bool kMemoryIsCached = false;
#else
constexpr bool kMemoryIsCached = true;
#endif

struct Order {
  bool eager_copies, cheap;
};

class UploaderOrders : public testing::TestWithParam<Order> {};

// Kernels see what was uploaded for them, whichever stream is ahead: 900 batches of two arrays are about 5 blocks.
TEST_P(UploaderOrders, KernelsReadWhatWasUploaded) {
  FakeDevice::copies_are_eager = GetParam().eager_copies;
  FakeDevice::cheap = GetParam().cheap;
  const kernels::DeviceApi api = FakeDevice::api();
  Queue computation{.eager = !GetParam().eager_copies};
  constexpr int kBatches = 900;
  std::vector<std::vector<unsigned char>> expected, read(2 * kBatches);
  std::shared_ptr<Storage> kept;   // by somebody who looks at an early batch again and again
  std::vector<unsigned char> of_kept;
  std::vector<std::shared_ptr<Storage>> alive;   // of a device that would wait before it takes memory back
  {
    Uploader uploader(api, Device::cpu(), computation.stream());
    for (int i = 0; i < kBatches; ++i) {
      std::vector<unsigned char> arrays[2];
      HostBytes pieces[2];
      for (int k = 0; k < 2; ++k) {
        arrays[k].assign(static_cast<std::size_t>(1 + (i * 37 + k * 101) % 6000), static_cast<unsigned char>(i * 2 + k));
        pieces[k] = std::as_bytes(std::span(arrays[k]));
        expected.push_back(arrays[k]);
      }
      std::vector<std::shared_ptr<Storage>> made;
      ASSERT_TRUE(uploader.upload(pieces, &made).ok());
      ASSERT_EQ(made.size(), 2u);
      for (std::size_t k = 0; k < 2; ++k) {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(made[k]->data()) % 64, 0u);
        std::vector<unsigned char>& to = read[static_cast<std::size_t>(i) * 2 + k];
        const std::byte* const from = made[k]->data();   // a kernel holds an address, not the storage
        to.resize(made[k]->bytes());
        computation.push([&to, from] { std::memcpy(to.data(), from, to.size()); });
        std::fill(arrays[k].begin(), arrays[k].end(), static_cast<unsigned char>(0));   // the caller's again
      }
      if (GetParam().cheap || !kMemoryIsCached) alive.insert(alive.end(), made.begin(), made.end());
      if (i == 3) kept = made[0], of_kept = expected[expected.size() - 2];
    }
    computation.run_until(computation.end());
    EXPECT_EQ(0, std::memcmp(kept->data(), of_kept.data(), of_kept.size()));
    kept.reset();
  }
  EXPECT_EQ(read, expected);
  if (GetParam().cheap) return;
  EXPECT_EQ(FakeDevice::transfers, kBatches);
  EXPECT_GE(FakeDevice::waits_of_copies, 4);
  EXPECT_LE(FakeDevice::waits_of_copies, 7);   // for whole blocks: between them copies run beside the computation
}
INSTANTIATE_TEST_SUITE_P(Schedules, UploaderOrders,
                         testing::Values(Order{false, false}, Order{true, false}, Order{true, true}));

}  // namespace
}  // namespace sinter
