// What every backend with graphs must do when work is captured, on any of its devices.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/captures.h"
#include "kernels/elementwise.h"

namespace sinter::kernels {

inline void expect_done(const Status& status) { EXPECT_TRUE(status.ok()) << status.what; }
inline void expect_invalid(const Status& status) {
  EXPECT_EQ(status.code, StatusCode::invalid_argument) << status.what;
}

/// A stream and three arrays on a device, with work for them.
class GraphCase {
 public:
  static constexpr int kCount = 64;
  static constexpr std::size_t kBytes = kCount * sizeof(float);
  using Values = std::vector<float>;

  GraphCase(const BackendModule& module, int number) : api(*module.device), device(number), module_(module) {
    expect_done(api.make_current(device));
    expect_done(api.create_stream(device, &stream));
    for (float** array : {&x, &y, &z}) {
      void* memory = nullptr;
      expect_done(api.allocate(device, kBytes, &memory));
      *array = static_cast<float*>(memory);
      expect_done(api.fill(device, memory, 0, kBytes, stream));
    }
  }
  ~GraphCase() {
    api.destroy_stream(device, stream);
    for (float* array : {x, y, z}) api.deallocate(device, array);
    expect_done(api.make_current(0));
  }
  GraphCase(const GraphCase&) = delete;
  GraphCase& operator=(const GraphCase&) = delete;

  static Values values(float first) {
    Values made(kCount);
    for (std::size_t i = 0; i < kCount; ++i) made[i] = first + static_cast<float>(i);
    return made;
  }
  void put(float* array, const Values& from) {
    expect_done(api.copy(device, array, from.data(), kBytes, stream));
    expect_done(api.synchronize(device, stream));
  }
  Values get(const float* array) {
    Values to(kCount);
    expect_done(api.copy(device, to.data(), array, kBytes, stream));
    expect_done(api.synchronize(device, stream));
    return to;
  }
  Status compute(UnaryOp op, double alpha, const float* in, float* out) {
    const Extents extents = {1, {kCount}};
    return run(module_, Unary{.op = op, .extents = extents, .in_strides = contiguous_strides(extents), .alpha = alpha,
                              .in = in, .out = out}, stream);
  }
  /// y = 2 x, z = y, half of y = 0.0115, x = y + 1: launches, a copy and a fill, of which no two may change places.
  void put_step() {
    expect_done(compute(UnaryOp::mul_scalar, 2, x, y));
    expect_done(api.copy(device, z, y, kBytes, stream));
    expect_done(api.fill(device, y, 0x3c, kBytes / 2, stream));
    expect_done(compute(UnaryOp::add_scalar, 1, y, x));
  }
  template <class Enqueue>
  Graph captured(Enqueue&& enqueue) {
    Graph graph;
    expect_done(api.begin_capture(device, stream));
    enqueue();
    expect_done(api.end_capture(device, stream, &graph));
    EXPECT_NE(graph.handle, nullptr);
    return graph;
  }
  void launch(Graph graph) { expect_done(api.launch_graph(device, graph, stream)); }
  /// A broken capture leaves the stream as it was.
  void expect_usable() {
    put(x, values(3));
    put_step();
    Values expected = values(3);
    for (std::size_t i = 0; i < kCount; ++i) expected[i] *= 2;
    EXPECT_EQ(get(z), expected);
  }

  const DeviceApi& api;
  int device;
  Stream stream;
  float *x = nullptr, *y = nullptr, *z = nullptr;

 private:
  const BackendModule& module_;
};

/// Replays equal the eager steps, see what changed in memory, and are all that runs.
inline void check_replays(const BackendModule& module, int device) {
  GraphCase c(module, device);
  const auto arrays = [&] { return std::vector<GraphCase::Values>{c.get(c.x), c.get(c.y), c.get(c.z)}; };
  std::vector<std::vector<GraphCase::Values>> eager;
  for (const float first : {1.0f, -5.0f}) {
    c.put(c.x, GraphCase::values(first));
    for (int step = 0; step < 3; ++step) {
      c.put_step();
      eager.push_back(arrays());
    }
  }
  c.put(c.x, GraphCase::values(1));
  const auto before = arrays();
  const Graph graph = c.captured([&] { c.put_step(); });
  EXPECT_EQ(arrays(), before);   // nothing has run
  std::size_t at = 0;
  for (const float first : {1.0f, -5.0f}) {
    c.put(c.x, GraphCase::values(first));
    for (int step = 0; step < 3; ++step) {
      c.launch(graph);
      EXPECT_EQ(arrays(), eager[at++]) << first << ", step " << step;
    }
  }
  c.put(c.x, GraphCase::values(1));
  for (int step = 0; step < 3; ++step) c.launch(graph);   // without a wait between them
  EXPECT_EQ(arrays(), eager[2]);
  c.api.destroy_graph(device, graph);
}

/// Graphs keep their own arguments, in any order, beside eager work and when another one is gone; empty ones too.
inline void check_several_graphs(const BackendModule& module, int device) {
  GraphCase c(module, device);
  const auto capture = [&](UnaryOp op, double alpha) {
    return c.captured([&] { expect_done(c.compute(op, alpha, c.x, c.x)); });
  };
  expect_done(c.compute(UnaryOp::add_scalar, 0, c.x, c.x));
  c.put(c.x, GraphCase::values(1));
  const Graph add = capture(UnaryOp::add_scalar, 1), twice = capture(UnaryOp::mul_scalar, 2), none = c.captured([] {});
  for (const Graph graph : {add, twice, none, twice, add}) c.launch(graph);
  c.api.destroy_graph(device, add);
  expect_done(c.compute(UnaryOp::add_scalar, 3, c.x, c.x));
  c.launch(twice);
  GraphCase::Values expected = GraphCase::values(1);
  for (float& value : expected) value = ((value + 1) * 4 + 1 + 3) * 2;
  EXPECT_EQ(c.get(c.x), expected);
  for (const Graph graph : {twice, none, Graph{}}) c.api.destroy_graph(device, graph);
}

/// Times of a captured stream are those of the graph's last run.
inline void check_times(const BackendModule& module, int device) {
  GraphCase c(module, device);
  Event begin, end;
  expect_done(c.api.create_timed_event(device, &begin));
  expect_done(c.api.create_timed_event(device, &end));
  double first = -1, captured = -1, replayed = -1;
  EXPECT_FALSE(c.api.elapsed(device, begin, end, &first).ok());   // no time has been kept yet
  const auto put_timed_step = [&] {
    expect_done(c.api.record_time(device, begin, c.stream));
    c.put_step();
    expect_done(c.api.record_time(device, end, c.stream));
  };
  put_timed_step();
  expect_done(c.api.synchronize(device, c.stream));
  expect_done(c.api.elapsed(device, begin, end, &first));
  EXPECT_GT(first, 0);
  const Graph graph = c.captured(put_timed_step);
  expect_done(c.api.elapsed(device, begin, end, &captured));
  EXPECT_EQ(captured, first);   // nothing has run
  bool changed = false;
  for (int replay = 0; replay < 20 && !changed; ++replay) {
    c.launch(graph);
    expect_done(c.api.synchronize(device, c.stream));
    expect_done(c.api.elapsed(device, begin, end, &replayed));
    EXPECT_GT(replayed, 0);
    changed = replayed != first;
  }
  EXPECT_TRUE(changed);
  c.api.destroy_graph(device, graph);
  c.api.destroy_event(device, begin);
  c.api.destroy_event(device, end);
}

/// What must not be called while a stream is captured: it is refused, and the capture ends with that reason.
inline void check_broken_captures(const BackendModule& module, int device) {
  GraphCase c(module, device);
  const DeviceApi& api = c.api;
  Stream other;
  Event event;
  void* none = nullptr;
  expect_done(api.create_stream(device, &other));
  expect_done(api.create_event(device, &event));
  const Graph graph = c.captured([&] { c.put_step(); });
  std::vector<float> host(GraphCase::kCount);
  struct Case {
    const char* words;
    std::function<Status()> call;
  };
  const std::vector<Case> cases = {
      {"from or to the host", [&] { return api.copy(device, c.x, host.data(), GraphCase::kBytes, c.stream); }},
      {"from or to the host", [&] { return api.copy(device, host.data(), c.x, GraphCase::kBytes, c.stream); }},
      {"that its capture does not hold", [&] { return api.wait_event(device, c.stream, event); }},
      {"record an event in it",
       [&] {
         Status status;
         std::thread([&] { status = api.record_event(device, event, c.stream); }).join();
         return status;
       }},
      {"wait for an event in it",
       [&] {
         expect_done(api.record_event(device, event, c.stream));
         Status status;
         std::thread([&] { status = api.wait_event(device, other, event); }).join();
         return status;
       }},
      {"null stream",
       [&] {
         expect_done(api.record_event(device, event, c.stream));
         return api.wait_event(device, {}, event);
       }},
      {"from or to the host",
       [&] {
         expect_done(api.record_event(device, event, c.stream));
         expect_done(api.wait_event(device, other, event));
         return api.copy(device, c.x, host.data(), GraphCase::kBytes, other);
       }},
      {"wait for a captured stream",
       [&] {
         expect_done(api.record_event(device, event, c.stream));
         expect_done(api.wait_event(device, other, event));
         return api.synchronize(device, other);
       }},
      {"takes no graphs", [&] { return api.launch_graph(device, graph, c.stream); }},
      {"wait for a captured stream", [&] { return api.synchronize(device, c.stream); }},
      {"cannot wait for a device", [&] { return api.synchronize(device, other); }},
      {"cannot wait for a device", [&] { return api.synchronize_event(device, event); }},
      {"cannot allocate memory", [&] { return api.allocate(device, 64, &none); }},
      {"cannot allocate memory", [&] { return api.allocate_host(device, 64, &none); }},
  };
  for (const Case& each : cases) {
    c.put(c.x, GraphCase::values(7));
    expect_done(api.begin_capture(device, c.stream));
    c.put_step();
    const Status refused = each.call();
    EXPECT_EQ(refused.code, StatusCode::unsupported) << each.words;
    EXPECT_NE(std::strstr(refused.what, each.words), nullptr) << refused.what;
    c.put_step();
    EXPECT_EQ(api.launch_graph(device, graph, c.stream).code, StatusCode::unsupported);   // not the first reason
    Graph made = graph;
    const Status ended = api.end_capture(device, c.stream, &made);
    EXPECT_EQ(ended.code, StatusCode::unsupported) << each.words;
    EXPECT_STREQ(ended.what, refused.what);
    EXPECT_EQ(made.handle, nullptr);
    EXPECT_EQ(none, nullptr);
    EXPECT_EQ(c.get(c.x), GraphCase::values(7)) << each.words;   // nothing has run
    c.expect_usable();
    c.launch(graph);
  }
  expect_done(api.synchronize(device, c.stream));
  api.destroy_graph(device, graph);
  api.destroy_event(device, event);
  api.destroy_stream(device, other);
}

/// Streams that join a capture and are awaited: branches of its graph, each behind what it waited for.
inline void check_branches(const BackendModule& module, int device) {
  GraphCase c(module, device), branch(module, device);
  const DeviceApi& api = c.api;
  Event begun, done;
  expect_done(api.create_event(device, &begun));
  expect_done(api.create_event(device, &done));
  expect_done(c.compute(UnaryOp::add_scalar, 0, c.x, c.x));
  expect_done(c.compute(UnaryOp::mul_scalar, 2, c.x, c.x));
  const auto follow = [&](Stream waits, Event event, Stream awaited) {
    expect_done(api.record_event(device, event, awaited));
    expect_done(api.wait_event(device, waits, event));
  };
  /// x = 2 x; then y = x + 1 twice in the branch, beside z = x; then x = y + 10.
  const auto put_step = [&] {
    expect_done(c.compute(UnaryOp::mul_scalar, 2, c.x, c.x));
    for (int again = 0; again < 2; ++again) {
      follow(branch.stream, begun, c.stream);
      expect_done(branch.compute(UnaryOp::add_scalar, 1, c.x, c.y));
    }
    expect_done(api.copy(device, c.z, c.x, GraphCase::kBytes, c.stream));
    follow(c.stream, done, branch.stream);
    expect_done(c.compute(UnaryOp::add_scalar, 10, c.y, c.x));
  };
  c.put(c.x, GraphCase::values(1));
  c.put(c.y, GraphCase::values(0));
  const Graph graph = c.captured(put_step);
  EXPECT_EQ(c.get(c.y), GraphCase::values(0));   // nothing has run
  EXPECT_FALSE(api.synchronize_event(device, done).ok());   // it is a point of the graph alone
  GraphCase::Values x = GraphCase::values(1);
  for (int replay = 0; replay < 3; ++replay) {
    c.launch(graph);
    GraphCase::Values z = x;
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = (z[i] = 2 * x[i]) + 11;
    EXPECT_EQ(c.get(c.x), x) << replay;
    EXPECT_EQ(c.get(c.z), z) << replay;
  }
  put_step();   // without a graph, in the same streams and with the same events
  for (float& value : x) value = 2 * value + 11;
  EXPECT_EQ(c.get(c.x), x);
  // A branch that nobody waits for to its end.
  Graph none = graph;
  expect_done(api.begin_capture(device, c.stream));
  follow(branch.stream, begun, c.stream);
  expect_done(api.record_event(device, done, branch.stream));
  expect_done(branch.compute(UnaryOp::add_scalar, 1, c.x, c.y));
  expect_done(api.wait_event(device, c.stream, done));
  const Status ended = api.end_capture(device, c.stream, &none);
  EXPECT_EQ(ended.code, StatusCode::unsupported);
  EXPECT_STREQ(ended.what, loose_end().what);
  EXPECT_EQ(none.handle, nullptr);
  c.expect_usable();
  branch.expect_usable();
  c.launch(graph);
  expect_done(api.synchronize(device, c.stream));
  api.destroy_graph(device, graph);
  api.destroy_event(device, begun);
  api.destroy_event(device, done);
}

/// Calls that make no sense are refused, and break nothing.
inline void check_misuse(const BackendModule& module, int device) {
  GraphCase c(module, device);
  Graph graph = {&c};
  expect_invalid(c.api.begin_capture(device, {}));
  expect_invalid(c.api.end_capture(device, c.stream, &graph));
  EXPECT_EQ(graph.handle, nullptr);
  expect_invalid(c.api.end_capture(device, c.stream, nullptr));
  expect_invalid(c.api.launch_graph(device, {}, c.stream));
  c.expect_usable();
  c.put(c.x, GraphCase::values(1));
  graph = c.captured([&] {
    expect_done(c.compute(UnaryOp::add_scalar, 1, c.x, c.x));
    expect_invalid(c.api.begin_capture(device, c.stream));
    std::thread([&] { expect_invalid(c.api.end_capture(device, c.stream, nullptr)); }).join();
  });
  c.launch(graph);
  EXPECT_EQ(c.get(c.x), GraphCase::values(2));
  c.api.destroy_graph(device, graph);
}

/// A capture that is thrown away, and one whose stream goes.
inline void check_thrown_away(const BackendModule& module, int device) {
  GraphCase c(module, device);
  for (const bool broken : {false, true}) {
    c.put(c.x, GraphCase::values(1));
    expect_done(c.api.begin_capture(device, c.stream));
    c.put_step();
    if (broken) {
      EXPECT_FALSE(c.api.synchronize(device, c.stream).ok());
    }
    expect_done(c.api.end_capture(device, c.stream, nullptr));
    EXPECT_EQ(c.get(c.x), GraphCase::values(1));
    c.expect_usable();
  }
  c.put(c.x, GraphCase::values(1));
  expect_done(c.api.begin_capture(device, c.stream));
  c.put_step();
  c.api.destroy_stream(device, c.stream);
  expect_done(c.api.create_stream(device, &c.stream));
  EXPECT_EQ(c.get(c.x), GraphCase::values(1));
  c.expect_usable();
}

/// Another thread goes on with a stream of its own, and what comes back meanwhile does not break the capture.
inline void check_capture_beside_others(const BackendModule& module, int device) {
  GraphCase c(module, device);
  const DeviceApi& api = c.api;
  const auto load = [&] {
    Stream loads;
    Event loaded;
    void *pinned = nullptr, *memory = nullptr;
    expect_done(api.create_stream(device, &loads));
    expect_done(api.create_event(device, &loaded));
    expect_done(api.allocate_host(device, 4, &pinned));
    expect_done(api.allocate(device, 4, &memory));
    std::memset(pinned, 5, 4);
    expect_done(api.copy(device, memory, pinned, 4, loads));
    expect_done(api.record_event(device, loaded, loads));
    expect_done(api.synchronize_event(device, loaded));
    std::memset(pinned, 0, 4);
    expect_done(api.copy(device, pinned, memory, 4, loads));
    expect_done(api.synchronize(device, loads));
    EXPECT_EQ(static_cast<char*>(pinned)[3], 5);
    api.deallocate(device, memory);
    api.deallocate_host(device, pinned);
    api.destroy_event(device, loaded);
    api.destroy_stream(device, loads);
  };
  const Graph old = c.captured([&] { c.put_step(); });
  Stream spare;
  void *memory = nullptr, *pinned = nullptr;
  expect_done(api.create_stream(device, &spare));
  expect_done(api.allocate(device, 64, &memory));
  expect_done(api.allocate_host(device, 64, &pinned));
  const Graph graph = c.captured([&] {
    expect_done(c.compute(UnaryOp::add_scalar, 1, c.x, c.x));
    std::thread(load).join();
    api.deallocate(device, memory);
    api.deallocate_host(device, pinned);
    api.destroy_graph(device, old);
    api.destroy_stream(device, spare);
    expect_done(c.compute(UnaryOp::add_scalar, 1, c.x, c.x));
  });
  c.put(c.x, GraphCase::values(1));
  c.launch(graph);
  EXPECT_EQ(c.get(c.x), GraphCase::values(3));
  api.destroy_graph(device, graph);
}

inline void check_graphs(const BackendModule& module, int device) {
  check_replays(module, device);
  check_several_graphs(module, device);
  check_times(module, device);
  check_branches(module, device);
  check_broken_captures(module, device);
  check_misuse(module, device);
  check_thrown_away(module, device);
  check_capture_beside_others(module, device);
}

/// The host has none, says so, and goes on.
inline void check_that_there_are_no_graphs(const DeviceApi& api, int device) {
  Graph graph = {&graph};
  std::uint32_t value = 0;
  const Status status = api.begin_capture(device, {});
  EXPECT_EQ(status.code, StatusCode::unsupported);
  EXPECT_NE(std::string(status.what).find("has no graphs"), std::string::npos) << status.what;
  expect_done(api.fill(device, &value, 1, sizeof value, {}));
  EXPECT_EQ(value, 0x01010101u);
  EXPECT_FALSE(api.end_capture(device, {}, &graph).ok());
  EXPECT_EQ(graph.handle, nullptr);
  EXPECT_FALSE(api.end_capture(device, {}, nullptr).ok());
  EXPECT_FALSE(api.launch_graph(device, graph, {}).ok());
  api.destroy_graph(device, graph);
}

}  // namespace sinter::kernels
