// The graphs of kernels/cuda/device.cpp, and products that are timed as graphs (kernels/cuda/gemm_trials.cpp), on a
// pretended CUDA runtime: what it is asked, in which order, and what happens when it refuses.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/cuda/gemm_trials.h"

namespace {

using Calls = std::vector<std::string>;

Calls calls;            // since the last look
std::string refused;    // the call that fails
bool capturing = false;
std::vector<float> elapsed;   // what the next pairs of events are apart, the last first

cudaError_t called(const std::string& name) {
  calls.push_back(name);
  return name == refused ? cudaErrorUnknown : cudaSuccess;
}

/// What CUDA answers when somebody waits for, or frees, what belongs to a device of which a stream is captured.
cudaError_t called_outside(const std::string& name) {
  return capturing ? calls.push_back(name + " in a capture"), cudaErrorStreamCaptureUnsupported : called(name);
}

template <class T>
cudaError_t make(T* handle, const std::string& name) {
  static char marks[1000];
  static std::size_t used = 0;
  const cudaError_t error = called(name);
  if (error == cudaSuccess) *handle = reinterpret_cast<T>(&marks[used++]);
  return error;
}

Calls taken() { return std::exchange(calls, {}); }

}  // namespace

extern "C" {
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) { return *count = 2, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  properties->major = 9;
  properties->multiProcessorCount = 132;
  std::strcpy(properties->name, "NVIDIA H200");
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return "the pretended runtime refuses this"; }

cudaError_t cudaMalloc(void** memory, std::size_t) { return make(memory, "malloc"); }
cudaError_t cudaHostAlloc(void** memory, std::size_t, unsigned) { return make(memory, "host alloc"); }
cudaError_t cudaFree(void*) { return called_outside("free"); }
cudaError_t cudaFreeHost(void*) { return called_outside("free host"); }
cudaError_t cudaDeviceSynchronize() { return called_outside("wait for the device"); }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* address) {
  *attributes = {};
  attributes->type = *static_cast<const char*>(address) == 'd' ? cudaMemoryTypeDevice : cudaMemoryTypeHost;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void*, const void*, std::size_t, cudaMemcpyKind, cudaStream_t) { return called("copy"); }
cudaError_t cudaMemsetAsync(void*, int, std::size_t, cudaStream_t) { return called("fill"); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return make(stream, "stream"); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return called_outside("destroy stream"); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return called_outside("wait for a stream"); }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return called("wait event"); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return make(event, "event"); }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return make(event, "timed event"); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = elapsed.back();
  elapsed.pop_back();
  return called("elapsed");
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;   // of a stream of its own; captures through device.cpp are counted there
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrL2CacheSize ? 5 << 20 : 0;
  return called("attribute");
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return called("destroy event"); }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return called("record event"); }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t, cudaStream_t, unsigned flags) {
  return called(flags == cudaEventRecordExternal ? "record time at each launch" : "record time");
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return called_outside("wait for an event"); }

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode mode) {
  if (mode != cudaStreamCaptureModeThreadLocal) return cudaErrorInvalidValue;
  const cudaError_t error = called("begin");
  if (error == cudaSuccess) capturing = true;
  return error;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  capturing = false;
  *graph = nullptr;
  return make(graph, "end");
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t, unsigned long long) {
  return make(made, "instantiate");
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return called("upload"); }
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return called("launch"); }
cudaError_t cudaGraphDestroy(cudaGraph_t) { return called("destroy template"); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return called_outside("destroy graph"); }
}

namespace sinter::kernels {
namespace {

class DeviceGraphs : public ::testing::Test {
 protected:
  DeviceGraphs() {
    EXPECT_TRUE(api.create_stream(0, &stream).ok());
    taken();
  }
  ~DeviceGraphs() override { refused.clear(); }

  const DeviceApi& api = cuda_device_api();
  Stream stream;
  Graph graph = {this};
  char device_memory[8] = "d", host_memory[8] = "h";
};

TEST_F(DeviceGraphs, AreInstantiatedAndTheTemplateGoes) {
  ASSERT_TRUE(api.begin_capture(0, stream).ok());
  EXPECT_TRUE(api.copy(0, device_memory, device_memory, 4, stream).ok());
  EXPECT_TRUE(api.fill(0, device_memory, 0, 4, stream).ok());
  ASSERT_TRUE(api.end_capture(0, stream, &graph).ok());
  EXPECT_NE(graph.handle, nullptr);
  EXPECT_EQ(taken(), (Calls{"begin", "copy", "fill", "end", "instantiate", "upload", "destroy template"}));
  EXPECT_TRUE(api.launch_graph(0, graph, stream).ok());
  api.destroy_graph(0, graph);
  EXPECT_EQ(taken(), (Calls{"launch", "wait for the device", "destroy graph"}));
}

TEST_F(DeviceGraphs, KeepTimesAtEachLaunch) {
  Event event;
  ASSERT_TRUE(api.create_timed_event(0, &event).ok());
  EXPECT_TRUE(api.record_time(0, event, stream).ok());
  ASSERT_TRUE(api.begin_capture(0, stream).ok());
  EXPECT_TRUE(api.record_time(0, event, stream).ok());
  ASSERT_TRUE(api.end_capture(0, stream, &graph).ok());
  EXPECT_EQ(taken(), (Calls{"timed event", "record time", "begin", "record time at each launch", "end", "instantiate",
                            "upload", "destroy template"}));
  elapsed = {0.25f};
  double microseconds = 0;
  EXPECT_TRUE(api.elapsed(0, event, event, &microseconds).ok());
  EXPECT_EQ(microseconds, 250);
  api.destroy_graph(0, graph);
  api.destroy_event(0, event);
}

TEST_F(DeviceGraphs, WhatCannotBeCapturedNeverReachesTheRuntime) {
  ASSERT_TRUE(api.begin_capture(0, stream).ok());
  taken();
  void* memory = nullptr;
  EXPECT_EQ(api.copy(0, device_memory, host_memory, 4, stream).code, StatusCode::unsupported);
  EXPECT_EQ(api.copy(0, host_memory, device_memory, 4, stream).code, StatusCode::unsupported);
  EXPECT_EQ(api.allocate(0, 4, &memory).code, StatusCode::unsupported);
  EXPECT_EQ(api.allocate_host(0, 4, &memory).code, StatusCode::unsupported);
  EXPECT_EQ(api.wait_event(0, stream, {&memory}).code, StatusCode::unsupported);
  EXPECT_EQ(api.synchronize(0, stream).code, StatusCode::unsupported);
  EXPECT_EQ(api.synchronize_event(0, {&memory}).code, StatusCode::unsupported);
  EXPECT_EQ(api.launch_graph(0, {&memory}, stream).code, StatusCode::unsupported);
  EXPECT_EQ(taken(), Calls{});
  const Status status = api.end_capture(0, stream, &graph);
  EXPECT_EQ(status.code, StatusCode::unsupported);
  EXPECT_STREQ(status.what, "a captured stream takes no copies from or to the host");
  EXPECT_EQ(graph.handle, nullptr);
  EXPECT_EQ(taken(), (Calls{"end", "destroy template"}));
  EXPECT_TRUE(api.copy(0, device_memory, host_memory, 4, stream).ok());
}

TEST_F(DeviceGraphs, WhatTheRuntimeRefusesLeavesNoGraph) {
  const std::vector<std::pair<std::string, Calls>> cases = {
      {"begin", {"begin"}},
      {"end", {"begin", "end"}},
      {"instantiate", {"begin", "end", "instantiate", "destroy template"}},
      {"upload",
       {"begin", "end", "instantiate", "upload", "wait for the device", "destroy graph", "destroy template"}}};
  for (const auto& [call, expected] : cases) {
    refused = call;
    graph = {this};
    if (call == "begin") {
      EXPECT_EQ(api.begin_capture(0, stream).code, StatusCode::device_error);
      EXPECT_EQ(api.end_capture(0, stream, &graph).code, StatusCode::invalid_argument);   // it is as if never begun
    } else {
      ASSERT_TRUE(api.begin_capture(0, stream).ok());
      EXPECT_EQ(api.end_capture(0, stream, &graph).code, StatusCode::device_error) << call;
    }
    EXPECT_EQ(graph.handle, nullptr) << call;
    EXPECT_EQ(taken(), expected) << call;
    refused.clear();
    EXPECT_TRUE(api.synchronize(0, stream).ok());
    taken();
  }
  refused = "end";   // thrown away: nobody asks what became of it
  ASSERT_TRUE(api.begin_capture(0, stream).ok());
  EXPECT_TRUE(api.end_capture(0, stream, nullptr).ok());
}

TEST_F(DeviceGraphs, WhatComesBackInACaptureIsFreedBehindIt) {
  Stream spare, second;
  void *memory = nullptr, *pinned = nullptr, *elsewhere = nullptr;
  ASSERT_TRUE(api.begin_capture(0, stream).ok());
  ASSERT_TRUE(api.end_capture(0, stream, &graph).ok());
  for (Stream* made : {&spare, &second}) ASSERT_TRUE(api.create_stream(0, made).ok());
  ASSERT_TRUE(api.allocate(0, 4, &memory).ok());
  ASSERT_TRUE(api.allocate_host(0, 4, &pinned).ok());
  ASSERT_TRUE(api.allocate(1, 4, &elsewhere).ok());
  ASSERT_TRUE(api.begin_capture(0, stream).ok());
  ASSERT_TRUE(api.begin_capture(0, second).ok());
  taken();
  api.deallocate(0, memory);
  api.deallocate_host(0, pinned);
  api.destroy_stream(0, spare);
  api.destroy_graph(0, graph);
  std::thread([&] { api.deallocate(0, memory); }).join();
  api.deallocate(1, elsewhere);   // of another device, by the thread that captures
  EXPECT_EQ(taken(), Calls{});
  ASSERT_TRUE(api.end_capture(0, second, nullptr).ok());
  EXPECT_EQ(taken(), (Calls{"end", "destroy template"}));
  capturing = true;   // the runtime's other capture goes on
  ASSERT_TRUE(api.end_capture(0, stream, nullptr).ok());
  EXPECT_EQ(taken(), (Calls{"end", "destroy template", "wait for the device", "free", "wait for the device",
                            "free host", "wait for a stream", "destroy stream", "wait for the device",
                            "destroy graph", "wait for the device", "free", "wait for the device", "free"}));
}

// A loader's thread frees what it likes on another device while this one captures.
TEST_F(DeviceGraphs, OtherThreadsFreeOnOtherDevicesAtOnce) {
  void* elsewhere = nullptr;
  ASSERT_TRUE(api.allocate(1, 4, &elsewhere).ok());
  ASSERT_TRUE(api.begin_capture(0, stream).ok());
  capturing = false;   // for the runtime's device 1
  taken();
  std::thread([&] { api.deallocate(1, elsewhere); }).join();
  EXPECT_EQ(taken(), (Calls{"wait for the device", "free"}));
  ASSERT_TRUE(api.end_capture(0, stream, nullptr).ok());
}

TEST_F(DeviceGraphs, AStreamThatGoesEndsItsCapture) {
  ASSERT_TRUE(api.begin_capture(0, stream).ok());
  taken();
  api.destroy_stream(0, stream);
  EXPECT_EQ(taken(), (Calls{"end", "destroy template", "wait for a stream", "destroy stream"}));
}

// --- gemm_trials.cpp ---

class GemmTrials : public DeviceGraphs {
 protected:
  /// Times three launches, each of which is noted with the stream that it goes to.
  Status time(double* milliseconds, int failing = -1) {
    int launched = 0;
    return cuda::trials::time(0, stream, 3, [&](int i, Stream where) {
      calls.push_back((where.handle == stream.handle ? "product " : "captured product ") + std::to_string(i));
      return launched++ == failing ? unsupported("this product fails") : Status{};
    }, milliseconds);
  }
};

TEST_F(GemmTrials, AProductIsTimedInAGraphOfManyAndTheMedianCounts) {
  elapsed = {5, 100, 7, 6, 3};
  double milliseconds = 0;
  ASSERT_TRUE(time(&milliseconds).ok());
  EXPECT_EQ(milliseconds, 2);   // 6 for three
  Calls found = taken();
  const auto count = [&](const std::string& name) { return std::count(found.begin(), found.end(), name); };
  EXPECT_EQ(count("launch"), 6);               // the first is a warm-up
  EXPECT_EQ(count("record event"), 12);
  EXPECT_EQ(count("wait for a stream"), 2);    // for the times, and before the captured stream goes
  EXPECT_EQ(count("timed event"), count("destroy event"));
  EXPECT_EQ(count("stream"), count("destroy stream"));
  EXPECT_EQ(count("instantiate"), count("destroy graph"));
  found.resize(7);
  EXPECT_EQ(found, (Calls{"product 0", "stream", "begin", "captured product 0", "captured product 1",
                          "captured product 2", "end"}));
}

TEST_F(GemmTrials, AProductThatFailsEndsTheCaptureAndLeavesNothing) {
  double milliseconds = 0;
  for (const int failing : {0, 1, 3}) {
    EXPECT_STREQ(time(&milliseconds, failing).what, "this product fails");
    EXPECT_FALSE(capturing);
    const Calls found = taken();
    const auto count = [&](const std::string& name) { return std::count(found.begin(), found.end(), name); };
    EXPECT_EQ(count("launch"), 0);
    EXPECT_EQ(count("stream"), count("destroy stream"));
    EXPECT_EQ(count("end"), count("destroy template"));
    EXPECT_EQ(count("instantiate"), 0);
  }
}

TEST_F(GemmTrials, WhatTheRuntimeRefusesIsAnAnswer) {
  for (const char* each : {"stream", "begin", "end", "instantiate", "timed event", "record event", "launch",
                           "wait for a stream", "elapsed"}) {
    elapsed = std::vector<float>(5, 1);
    refused = each;
    double milliseconds = 0;
    EXPECT_FALSE(time(&milliseconds).ok()) << each;
    EXPECT_FALSE(capturing) << each;
    refused.clear();
    taken();
  }
}

TEST_F(GemmTrials, AreForbiddenInACapture) {
  EXPECT_FALSE(cuda::trials::are_forbidden(0, stream));
  ASSERT_TRUE(api.begin_capture(0, stream).ok());
  EXPECT_TRUE(cuda::trials::are_forbidden(0, stream));
  EXPECT_TRUE(cuda::trials::are_forbidden(1, {&calls}));   // this thread may wait for no device
  EXPECT_TRUE(api.end_capture(0, stream, &graph).ok());
  EXPECT_FALSE(cuda::trials::are_forbidden(0, stream));
}

TEST_F(GemmTrials, KnowTheDevice) {
  EXPECT_EQ(cuda::trials::gpu(0), "NVIDIA H200, compute capability 9.0, 132 multiprocessors");
  EXPECT_EQ(cuda::trials::cache_bytes(0), std::size_t{5} << 20);
}

}  // namespace
}  // namespace sinter::kernels
