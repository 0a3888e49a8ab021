// The emulated machine keeps CUDA's rules: what each collective gives to each lane, when copies land, which launches
// are refused, how streams, events and recordings order work.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/base/device_code.cuh"

namespace sinter::kernels::simt {
namespace {

/// A buffer on the device with typed copies.
template <class T>
class Buffer {
 public:
  Buffer(Device& device, const std::vector<T>& values) : device_(device), count_(values.size()) {
    void* memory = nullptr;
    if (!device.allocate(count_ * sizeof(T), &memory).ok()) std::abort();
    data_ = static_cast<T*>(memory);
    if (!device.copy(data_, values.data(), count_ * sizeof(T)).ok()) std::abort();
  }
  ~Buffer() { EXPECT_TRUE(device_.deallocate(data_).ok()); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() const { return data_; }
  std::vector<T> values() const {
    std::vector<T> found(count_);
    EXPECT_TRUE(device_.copy(found.data(), data_, count_ * sizeof(T)).ok());
    return found;
  }

 private:
  Device& device_;
  std::size_t count_;
  T* data_;
};

class Machine : public ::testing::TestWithParam<Order> {
 protected:
  Machine() {
    device_.options.order = GetParam();
    device_.options.seed = 7;
  }
  template <class... P, class... A>
  void run(void (*kernel)(P...), dim3 grid, dim3 block, std::size_t shared, A... arguments) {
    const Status status = launch(kernel, grid, block, shared, stream_, arguments...);
    ASSERT_TRUE(status.ok()) << status.what;
  }

  Device device_;
  Stream stream_ = device_.make_stream();
};

INSTANTIATE_TEST_SUITE_P(Orders, Machine, ::testing::Values(Order::in_order, Order::reverse, Order::random));

__global__ void positions(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = static_cast<int>(block * threads + thread);
}

TEST_P(Machine, EveryThreadOfEveryBlockRunsOnce) {
  const Buffer<int> out(device_, std::vector<int>(2 * 3 * 2 * 4 * 5 * 3, -1));
  run(positions, dim3(2, 3, 2), dim3(4, 5, 3), 0, out.data());
  std::vector<int> all(out.values().size());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(out.values(), all);
}

__global__ void shuffles(int kind, int lane, int width, int* out) {
  const int value = static_cast<int>(threadIdx.x) * 10;
  int got = 0;
  if (kind == 0) got = __shfl_sync(0xffffffffu, value, lane, width);
  if (kind == 1) got = __shfl_up_sync(0xffffffffu, value, static_cast<unsigned>(lane), width);
  if (kind == 2) got = __shfl_down_sync(0xffffffffu, value, static_cast<unsigned>(lane), width);
  if (kind == 3) got = __shfl_xor_sync(0xffffffffu, value, lane, width);
  out[threadIdx.x] = got / 10;
}

// After the CUDA C++ Programming Guide: segments of `width` lanes; a source outside of the segment gives the own value.
TEST_P(Machine, ShufflesReadTheLaneThatTheGuideNames) {
  const Buffer<int> out(device_, std::vector<int>(64));
  for (const int width : {32, 16, 8, 2})
    for (const int lane : {0, 1, 3, 5, 15, 31})
      for (int kind = 0; kind < 4; ++kind) {
        run(shuffles, dim3(1), dim3(64), 0, kind, lane, width, out.data());
        const std::vector<int> got = out.values();
        for (int i = 0; i < 64; ++i) {
          const int segment = i / width * width, inside = i % width;
          int from = i;
          if (kind == 0) from = segment + lane % width;
          if (kind == 1 && inside >= lane) from = i - lane;
          if (kind == 2 && inside + lane < width) from = i + lane;
          if (kind == 3 && (i % 32 ^ lane) < segment % 32 + width) from = i / 32 * 32 + (i % 32 ^ lane);
          EXPECT_EQ(got[static_cast<std::size_t>(i)], from)
              << "kind " << kind << " lane " << lane << " width " << width;
        }
      }
}

struct Pair {
  float a;
  int b;
};

__global__ void shuffle_of_eight_bytes(double* out) {
  const double value = __shfl_xor_sync(0xffffffffu, 1.5 * threadIdx.x, 1);
  const Pair pair = __shfl_sync(0xffffffffu, Pair{0.25f, static_cast<int>(threadIdx.x)}, 9);
  out[threadIdx.x] = value + pair.a + pair.b;
}

TEST_P(Machine, ShufflesMoveEightBytes) {
  const Buffer<double> out(device_, std::vector<double>(32));
  run(shuffle_of_eight_bytes, dim3(1), dim3(32), 0, out.data());
  EXPECT_EQ(out.values()[6], 1.5 * 7 + 0.25 + 9);
}

__global__ void votes(unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  const bool odd = lane % 2 == 1, upper = lane >= 16;
  out[threadIdx.x * 6 + 0] = __ballot_sync(0xffffffffu, odd);
  const int all = __all_sync(0xffffffffu, odd) + 2 * __all_sync(0xffffffffu, lane < 32);
  const int any = __any_sync(0xffffffffu, lane == 5) + 2 * __any_sync(0xffffffffu, false);
  out[threadIdx.x * 6 + 1] = static_cast<unsigned>(all);
  out[threadIdx.x * 6 + 2] = static_cast<unsigned>(any);
  unsigned part = 0;
  if (upper)
    part = __ballot_sync(0xffff0000u, lane % 4 == 0);
  else
    part = __ballot_sync(0x0000ffffu, lane % 8 == 0);
  out[threadIdx.x * 6 + 3] = part;
  out[threadIdx.x * 6 + 4] = __reduce_add_sync(0xffffffffu, lane) + 1000 * __reduce_max_sync(0xffffffffu, lane ^ 9);
  int block = __syncthreads_count(odd);
  block += 1000 * __syncthreads_or(threadIdx.x == 40);
  block += 2000 * __syncthreads_and(threadIdx.x < 64);
  block += 4000 * __syncthreads_and(threadIdx.x < 63);
  out[threadIdx.x * 6 + 5] = static_cast<unsigned>(block);
}

TEST_P(Machine, VotesAndReductions) {
  const Buffer<unsigned> out(device_, std::vector<unsigned>(64 * 6));
  run(votes, dim3(1), dim3(64), 0, out.data());
  const std::vector<unsigned> got = out.values();
  for (unsigned i = 0; i < 64; ++i) {
    EXPECT_EQ(got[i * 6 + 0], 0xaaaaaaaau);
    EXPECT_EQ(got[i * 6 + 1], 2u);
    EXPECT_EQ(got[i * 6 + 2], 1u);
    EXPECT_EQ(got[i * 6 + 3], i % 32 >= 16 ? 0x11110000u : 0x00000101u);
    EXPECT_EQ(got[i * 6 + 4], 496u + 1000u * 31u);
    EXPECT_EQ(got[i * 6 + 5], 32u + 1000u + 2000u);
  }
}

template <class T>
__global__ void one_mma(const T* a, const T* b, float* c) {  // a [16, 16], b [16, 8] column-major, c [16, 8]
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, q = lane % 4 * 2;
  std::uint32_t fa[4], fb[2];
  for (int i = 0; i < 4; ++i) memcpy(&fa[i], a + (g + (i & 1) * 8) * 16 + q + (i >> 1) * 8, 4);
  for (int i = 0; i < 2; ++i) memcpy(&fb[i], b + g * 16 + q + i * 8, 4);
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = c[(g + (i >> 1) * 8) * 8 + q + (i & 1)];
  mma_m16n8k16<T>(d, fa, fb, d);
  for (int i = 0; i < 4; ++i) c[(g + (i >> 1) * 8) * 8 + q + (i & 1)] = d[i];
}

template <class T>
void expect_mma(Device& device, Stream stream) {
  std::mt19937 engine(3);
  std::uniform_int_distribution<int> small(-8, 8);   // every product and sum is exact
  std::vector<T> a(256), b(128);
  std::vector<float> c(128);
  for (T& x : a) x = T(static_cast<float>(small(engine)));
  for (T& x : b) x = T(static_cast<float>(small(engine)));
  for (float& x : c) x = static_cast<float>(small(engine));
  const Buffer<T> da(device, a), db(device, b);
  const Buffer<float> dc(device, c);
  ASSERT_TRUE(launch(one_mma<T>, dim3(1), dim3(32), 0, stream, da.data(), db.data(), dc.data()).ok());
  const std::vector<float> got = dc.values();
  for (std::size_t m = 0; m < 16; ++m)
    for (std::size_t n = 0; n < 8; ++n) {
      float sum = c[m * 8 + n];
      for (std::size_t k = 0; k < 16; ++k) sum += static_cast<float>(a[m * 16 + k]) * static_cast<float>(b[n * 16 + k]);
      EXPECT_EQ(got[m * 8 + n], sum) << m << ", " << n;
    }
}

TEST_P(Machine, MmaMultipliesFragments) {
  expect_mma<__half>(device_, stream_);
  expect_mma<__nv_bfloat16>(device_, stream_);
}

__global__ void load_fragments(const std::uint16_t* in, std::uint32_t* out, bool transposed) {
  SINTER_SHARED(std::uint16_t, tile, [4 * 8 * 8]);
  for (unsigned i = threadIdx.x; i < 256; i += 32) tile[i] = in[i];
  __syncwarp();
  std::uint32_t r[4];
  if (transposed)
    ldmatrix_x4_transposed(r, tile + threadIdx.x * 8);
  else
    ldmatrix_x4(r, tile + threadIdx.x * 8);
  for (unsigned i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = r[i];
}

TEST_P(Machine, LdmatrixHandsOutRowsOrColumns) {
  std::vector<std::uint16_t> in(256);
  std::iota(in.begin(), in.end(), std::uint16_t{0});   // matrix * 64 + row * 8 + column
  const Buffer<std::uint16_t> source(device_, in);
  const Buffer<std::uint32_t> out(device_, std::vector<std::uint32_t>(128));
  for (const bool transposed : {false, true}) {
    run(load_fragments, dim3(1), dim3(32), 0, source.data(), out.data(), transposed);
    const std::vector<std::uint32_t> got = out.values();
    for (std::uint32_t lane = 0; lane < 32; ++lane)
      for (std::uint32_t i = 0; i < 4; ++i) {
        const std::uint32_t major = lane / 4, minor = lane % 4 * 2, matrix = i * 64;
        const std::uint32_t first = matrix + (transposed ? minor * 8 + major : major * 8 + minor);
        const std::uint32_t second = matrix + (transposed ? (minor + 1) * 8 + major : major * 8 + minor + 1);
        EXPECT_EQ(got[lane * 4 + i], first | second << 16);
      }
  }
}

__global__ void pipelined_copies(const float* in, float* out) {
  SINTER_SHARED(float, tiles, [3][4]);
  for (int i = 0; i < 3; ++i) {
    copy_async_16(tiles[i], in + i * 4, i != 2);
    commit_copies();
  }
  wait_copies<1>();   // the first two are there
  for (int i = 0; i < 8; ++i) out[i] = tiles[i / 4][i % 4];
  wait_copies<0>();
  for (int i = 8; i < 12; ++i) out[i] = tiles[i / 4][i % 4];
}

TEST_P(Machine, CopiesLandGroupByGroup) {
  std::vector<float> in(12);
  std::iota(in.begin(), in.end(), 1.0f);
  const Buffer<float> source(device_, in), out(device_, std::vector<float>(12));
  for (const bool late : {true, false}) {
    device_.options.late_copies = late;
    run(pipelined_copies, dim3(1), dim3(1), 0, source.data(), out.data());
    std::vector<float> expected = in;
    for (std::size_t i = 8; i < 12; ++i) expected[i] = 0;   // copied with valid = false
    EXPECT_EQ(out.values(), expected);
  }
}

__global__ void block_sums(const float* in, float* out, int n) {
  SINTER_DYNAMIC_SHARED(float, parts);
  SINTER_SHARED(float, total);
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) sum += in[blockIdx.x * n + i];
  parts[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned step = blockDim.x / 2; step > 0; step /= 2) {
    if (threadIdx.x < step) parts[threadIdx.x] += parts[threadIdx.x + step];
    __syncthreads();
  }
  if (threadIdx.x == 0) total = parts[0];
  __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = total;
}

TEST_P(Machine, SharedMemoryIsTheBlocksOwn) {
  std::vector<float> in(6 * 1000);
  for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<float>(i % 7) + static_cast<float>(i / 1000);
  const Buffer<float> source(device_, in), out(device_, std::vector<float>(6 * 128));
  run(block_sums, dim3(6), dim3(128), 128 * sizeof(float), source.data(), out.data(), 1000);
  for (std::size_t block = 0; block < 6; ++block) {
    float expected = 0;
    for (std::size_t i = 0; i < 1000; ++i) expected += in[block * 1000 + i];
    for (std::size_t i = 0; i < 128; ++i) EXPECT_EQ(out.values()[block * 128 + i], expected);
  }
}

__global__ void add_one(float* p) { p[threadIdx.x] += 1; }

TEST(Streams, LazyWorkRunsWhenSomebodyWaits) {
  Device device;
  device.options.lazy_streams = true;
  const Buffer<float> x(device, {1, 2});
  const Stream stream = device.make_stream();
  ASSERT_TRUE(launch(add_one, dim3(1), dim3(2), 0, stream, x.data()).ok());
  EXPECT_EQ(x.values()[0], 1);
  Event event;
  EXPECT_TRUE(event.synchronize().ok());   // never recorded: nobody waits
  event.record(device.queue(stream));
  ASSERT_TRUE(launch(add_one, dim3(1), dim3(2), 0, stream, x.data()).ok());
  EXPECT_TRUE(event.synchronize().ok());
  EXPECT_EQ(x.values()[0], 2);             // what came before the event, and no more
  EXPECT_TRUE(device.queue(stream).synchronize().ok());
  EXPECT_EQ(x.values()[0], 3);
  device.destroy_stream(stream);
}

TEST(Streams, RecordedLaunchesRunAtEachReplay) {
  Device device;
  const Buffer<float> x(device, {1, 2});
  const Stream stream = device.make_stream();
  device.queue(stream).begin_recording();
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(launch(add_one, dim3(1), dim3(2), 0, stream, x.data()).ok());
  EXPECT_FALSE(launch(add_one, dim3(1), dim3(2000), 0, stream, x.data()).ok());   // what is refused is not recorded
  const Recording recording = *device.queue(stream).end_recording();
  EXPECT_EQ(recording.size(), 3u);
  EXPECT_EQ(x.values()[1], 2);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(device.replay(recording, stream).ok());
  EXPECT_EQ(x.values()[1], 8);
  EXPECT_EQ(device.statistics.launches, 6u);
}

TEST(Streams, OtherWorksAreRecordedBetweenLaunches) {
  for (const bool lazy : {false, true}) {
    Device device;
    device.options.lazy_streams = lazy;
    const Buffer<float> x(device, {1, 2}), y(device, {0, 0});
    const Stream stream = device.make_stream();
    StreamQueue& queue = device.queue(stream);
    ASSERT_TRUE(launch(add_one, dim3(1), dim3(2), 0, stream, x.data()).ok());   // lazy, it still waits
    queue.begin_recording();
    ASSERT_TRUE(queue.submit([&] { return device.copy(y.data(), x.data(), sizeof(float)); }).ok());
    ASSERT_TRUE(launch(add_one, dim3(1), dim3(2), 0, stream, x.data()).ok());
    ASSERT_TRUE(queue.submit([&] { return device.fill(x.data(), 0, sizeof(float)); }).ok());
    const Recording recording = *queue.end_recording();
    for (int i = 0; i < 2; ++i) ASSERT_TRUE(device.replay(recording, stream).ok());
    ASSERT_TRUE(queue.synchronize().ok());
    EXPECT_EQ(x.values(), (std::vector<float>{0, 5}));
    EXPECT_EQ(y.values(), (std::vector<float>{0, 0}));   // the second time; 2 after the first
    ASSERT_TRUE(queue.submit([&] { return device.fill(x.data(), 0, 2 * sizeof(float)); }).ok());
    ASSERT_TRUE(device.replay(recording, stream).ok());
    ASSERT_TRUE(queue.synchronize().ok());
    EXPECT_EQ(x.values(), (std::vector<float>{0, 1}));
  }
}

TEST(Launches, WhatCudaRefusesIsRefused) {
  Device device;
  const Buffer<float> x(device, {1});
  const Stream stream = device.make_stream();
  const auto refused = [&](dim3 grid, dim3 block, std::size_t shared) {
    return launch(add_one, grid, block, shared, stream, x.data()).code == StatusCode::invalid_argument;
  };
  EXPECT_TRUE(refused(dim3(1), dim3(0), 0));
  EXPECT_TRUE(refused(dim3(1), dim3(1025), 0));
  EXPECT_TRUE(refused(dim3(1), dim3(1, 1, 65), 0));
  EXPECT_TRUE(refused(dim3(0), dim3(1), 0));
  EXPECT_TRUE(refused(dim3(1, 65536), dim3(1), 0));
  EXPECT_TRUE(refused(dim3(1), dim3(1), (48 << 10) + 1));
  EXPECT_TRUE(allow_dynamic_shared(add_one, 100 << 10, stream).ok());
  EXPECT_FALSE(refused(dim3(1), dim3(1), 100 << 10));
  EXPECT_FALSE(allow_dynamic_shared(add_one, 228 << 10, stream).ok());
  EXPECT_EQ(x.values()[0], 2);
}

__global__ void sum_in_two_arrays(float* p) {
  SINTER_SHARED(float, own, [8 << 10]);   // 32 KiB
  SINTER_DYNAMIC_SHARED(float, given);
  own[threadIdx.x] = given[threadIdx.x] = p[threadIdx.x];
  p[threadIdx.x] = own[threadIdx.x] + given[threadIdx.x];
}

TEST(Launches, StaticAndDynamicSharedMemoryCountTogether) {
  Device device;
  const Buffer<float> x(device, {1});
  const Stream stream = device.make_stream();
  const auto runs = [&](std::size_t shared) {
    return launch(sum_in_two_arrays, dim3(1), dim3(1), shared, stream, x.data()).ok();
  };
  EXPECT_TRUE(runs(16 << 10));
  EXPECT_FALSE(runs((16 << 10) + 16));
  EXPECT_NE(device.last_fault().find("more shared memory than the block may have"), std::string::npos)
      << device.last_fault();
  EXPECT_TRUE(allow_dynamic_shared(sum_in_two_arrays, 195 << 10, stream).ok());
  EXPECT_TRUE(runs(195 << 10));
  EXPECT_TRUE(allow_dynamic_shared(sum_in_two_arrays, 200 << 10, stream).ok());
  EXPECT_FALSE(runs(200 << 10));
}

__global__ void fail_in_block_three(float* p) {
  if (blockIdx.x != 3 || threadIdx.x != 40) __syncthreads();
  if (blockIdx.x == 4 && threadIdx.x == 0) p[0] = 0;
}

TEST(Faults, AFaultNamesItsPlaceAndTheDeviceGoesOn) {
  Device device;
  const Buffer<float> x(device, {1, 2});
  const Stream stream = device.make_stream();
  const Status status = launch(fail_in_block_three, dim3(5), dim3(64), 0, stream, x.data());
  EXPECT_EQ(status.code, StatusCode::device_error);
  const std::string report = status.what;
  EXPECT_EQ(report, device.last_fault());   // in order: threads 41 and on have not started
  EXPECT_NE(report.find("[block 3,0,0, thread 40,0,0]"), std::string::npos) << report;
  EXPECT_NE(report.find("40 threads in __syncthreads at machine_test.cu:"), std::string::npos) << report;
  ASSERT_TRUE(launch(add_one, dim3(1), dim3(2), 0, stream, x.data()).ok());
  EXPECT_EQ(x.values()[1], 3);
}

__global__ void take_row(const int* index, float* p) {
  if (index[blockIdx.x] < 0) device_fail("the index must not be negative");
  p[blockIdx.x] = 1;
}

TEST(Faults, AKernelEndsItselfWithASentence) {
  Device device;
  const Buffer<int> index(device, {4, 0, -1, 2});
  const Buffer<float> x(device, {0, 0, 0, 0});
  const Stream stream = device.make_stream();
  const Status status = launch(take_row, dim3(4), dim3(1), 0, stream, index.data(), x.data());
  EXPECT_EQ(status.code, StatusCode::device_error);
  EXPECT_EQ(std::string(status.what), "the index must not be negative [block 2,0,0, thread 0,0,0]");
  EXPECT_EQ(x.values(), (std::vector<float>{1, 1, 0, 0}));
  ASSERT_TRUE(launch(take_row, dim3(2), dim3(1), 0, stream, index.data(), x.data()).ok());
}

TEST(Memory, BuffersAreBoundedAndReused) {
  Device device;
  void* first = nullptr;
  ASSERT_TRUE(device.allocate(1000, &first).ok());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % 256, 0u);
  std::vector<unsigned char> bytes(1001);
  ASSERT_TRUE(device.copy(bytes.data(), first, 1000).ok());
  EXPECT_EQ(bytes[999], 0xff);   // never written: NaN
  EXPECT_EQ(device.copy(bytes.data(), first, 1001).code, StatusCode::device_error);
  EXPECT_EQ(device.copy(static_cast<std::byte*>(first) + 500, bytes.data(), 501).code, StatusCode::device_error);
  EXPECT_EQ(device.fill(bytes.data(), 0, 10).code, StatusCode::device_error);
  ASSERT_TRUE(device.fill(first, 3, 1000).ok());
  ASSERT_TRUE(device.copy(bytes.data(), first, 1000).ok());
  EXPECT_EQ(bytes[0], 3);
  EXPECT_EQ(device.deallocate(bytes.data()).code, StatusCode::device_error);
  EXPECT_TRUE(device.deallocate(first).ok());
  EXPECT_EQ(device.deallocate(first).code, StatusCode::device_error);
  void* second = nullptr;
  ASSERT_TRUE(device.allocate(1000, &second).ok());
  EXPECT_EQ(second, first);
  EXPECT_TRUE(device.deallocate(second).ok());
  EXPECT_EQ(device.allocate(DeviceMemory::kReserved, &second).code, StatusCode::out_of_memory);
  EXPECT_EQ(device.memory().bytes_in_use(), 0u);
}

}  // namespace
}  // namespace sinter::kernels::simt
