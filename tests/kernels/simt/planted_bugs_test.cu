// Every kind of bug that the emulated machine claims to see, planted once, and what each build says about it. The
// checked build must name both lines of a race; kernels that only look wrong must pass in every build.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/base/device_code.cuh"
#include "kernels/simt/checker.h"

namespace sinter::kernels::simt {
namespace {

constexpr unsigned kThreads = 256;

__device__ float warp_sum(float v) {
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}

// --- bugs ---

__global__ void no_barrier(const float* x, float* y) {
  SINTER_SHARED(float, s, [kThreads]);
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[kThreads - 1 - threadIdx.x];
}

__global__ void hidden_by_order(const float* x, float* y) {  // in order, every value is there in time
  SINTER_SHARED(float, s, [kThreads]);
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[threadIdx.x > 0 ? threadIdx.x - 1 : 0];
}

__global__ void reused_too_early(const float* x, float* y) {
  SINTER_SHARED(float, s, [kThreads]);
  float sum = 0;
  for (int i = 0; i < 4; ++i) {
    s[threadIdx.x] = x[threadIdx.x] * static_cast<float>(i + 1);
    __syncthreads();
    sum += s[(threadIdx.x + 37) % kThreads];
  }
  y[threadIdx.x] = sum;
}

__global__ void partials_without_barrier(const float* x, float* y) {
  SINTER_SHARED(float, parts, [kThreads / 32]);
  const float sum = warp_sum(x[threadIdx.x]);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  if (threadIdx.x == kThreads - 1) {
    float total = 0;
    for (float part : parts) total += part;
    y[0] = total;
  }
}

__global__ void no_syncwarp(const float* x, float* y) {
  SINTER_SHARED(float, s, [kThreads]);
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[threadIdx.x ^ 1];
}

/// Sound when a __syncwarp stands between the reads and the next round's writes.
template <bool synced>
__global__ void lanes_read_each_other(const float* x, float* y) {
  SINTER_SHARED(float, s, [kThreads]);
  float* warp = s + threadIdx.x / 32 * 32;
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    warp[threadIdx.x % 32] = x[threadIdx.x] + sum;
    __syncwarp();
    for (int lane = 0; lane < 32; ++lane) sum += warp[lane];
    if (synced) __syncwarp();
  }
  y[threadIdx.x] = sum;
}

__global__ void sum_without_atomics(const float* x, float* y) { y[0] += x[threadIdx.x]; }

__global__ void block_index_forgotten(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x]; }

__global__ void relies_on_block_order(const float* x, float* y) {
  if (blockIdx.x == 0) {
    y[threadIdx.x] = x[threadIdx.x];
  } else if (threadIdx.x == 0) {
    y[kThreads - 1] = y[3];
  }
}

/// Sound with a fence between the block's result and the counter.
template <bool fenced>
__global__ void sum_by_the_last_block(const float* x, float* y, unsigned* counter) {
  SINTER_SHARED(bool, last);
  if (threadIdx.x == 0) {
    y[blockIdx.x] = x[blockIdx.x];
    if (fenced) __threadfence();
    last = atomicInc(counter, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    float sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += y[i];
    y[200] = sum;
  }
}

__global__ void written_after_other_blocks_read(const float* x, float* y) {
  const float shared_by_all = y[0];
  __syncthreads();
  y[blockIdx.x == 3 ? 0 : 1 + blockIdx.x * kThreads / 4 + threadIdx.x % 32] = shared_by_all + x[0];
}

__global__ void reads_past_the_end(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x + 1]; }
__global__ void writes_past_the_end(const float* x, float* y) { y[threadIdx.x + 1] = x[threadIdx.x]; }

__global__ void static_array_too_small(const float* x, float* y) {
  SINTER_SHARED(float, s, [kThreads - 1]);
  float* p = s;
  p[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = p[threadIdx.x];
}

__global__ void dynamic_array_too_small(const float* x, float* y) {
  SINTER_DYNAMIC_SHARED(float, s);
  s[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = s[threadIdx.x];
}

__global__ void shared_read_before_write(const float* x, float* y) {
  SINTER_SHARED(float, s, [kThreads]);
  if (threadIdx.x + 1 < kThreads) s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x] > 1e30f ? 0.0f : 1.0f;
}

__global__ void global_read_before_write(const float* scratch, float* y) { y[threadIdx.x] = scratch[threadIdx.x] + 1; }

__global__ void barrier_in_a_branch(const float* x, float* y) {
  if (threadIdx.x < 100) __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

__global__ void barriers_in_both_branches(const float* x, float* y) {
  if (threadIdx.x < 100)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = x[threadIdx.x];
}

__global__ void early_return(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x];
  if (threadIdx.x >= 64) return;
  __syncthreads();
}

__global__ void shuffle_in_a_branch(const float* x, float* y) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 2 == 1) v = __shfl_xor_sync(0xffffffffu, v, 2);
  y[threadIdx.x] = v;
}

__global__ void copy_without_wait(const float* x, float* y) {
  SINTER_SHARED(float, s, [4 * kThreads]);
  copy_async_16(&s[threadIdx.x * 4], x + threadIdx.x * 4);
  commit_copies();
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x * 4];
  wait_copies<0>();
}

__global__ void copy_without_barrier(const float* x, float* y) {
  SINTER_SHARED(float, s, [4 * kThreads]);
  copy_async_16(&s[threadIdx.x * 4], x + threadIdx.x * 4);
  commit_copies();
  wait_copies<0>();
  y[threadIdx.x] = s[(kThreads - 1 - threadIdx.x) * 4];
}

__global__ void copy_never_waited_for(const float* x, float* y) {
  SINTER_SHARED(float, s, [4 * kThreads]);
  copy_async_16(&s[threadIdx.x * 4], x + threadIdx.x * 4);
  y[threadIdx.x] = 0;
}

__global__ void misaligned_copy(const float* x, float* y) {
  SINTER_SHARED(float, s, [4 * kThreads]);
  copy_async_16(&s[threadIdx.x * 2], x);
  commit_copies();
  wait_copies<0>();
  y[threadIdx.x] = 0;
}

// --- what only looks wrong ---

__global__ void partial_last_warp(const float* x, float* y) {
  float v = x[threadIdx.x];
  v += __shfl_xor_sync(0xffffffffu, v, 1);
  y[threadIdx.x] = v;
}

__global__ void atomics(const float* x, float* y) { atomicAdd(&y[threadIdx.x % 4], x[threadIdx.x]); }

__global__ void warps_leave(const float* x, float* y) {
  if (threadIdx.x >= 64) return;
  y[threadIdx.x] = warp_sum(x[threadIdx.x]);
}

__global__ void divergent_halves(const float* x, float* y) {
  float v = x[threadIdx.x];
  if (threadIdx.x % 32 < 16)
    v = __shfl_xor_sync(0x0000ffffu, v, 3);
  else
    v = __shfl_xor_sync(0xffff0000u, v, 5);
  y[threadIdx.x] = v;
}

// --- the harness ---

class Buffers {
 public:
  explicit Buffers(Device& device) : device_(device) {
    std::vector<float> values(4 * kThreads);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 13) - 5;
    x_long = make(values.data(), values.size() * sizeof(float));
    x = make(values.data(), kThreads * sizeof(float));
    const std::vector<float> zeros(kThreads);
    y = make(zeros.data(), kThreads * sizeof(float));
    counter = reinterpret_cast<unsigned*>(make(zeros.data(), sizeof(unsigned)));
    scratch = make(nullptr, kThreads * sizeof(float));
  }
  float *x, *x_long, *y, *scratch;
  unsigned* counter;

 private:
  float* make(const void* from, std::size_t bytes) {
    void* memory = nullptr;
    if (!device_.allocate(bytes, &memory).ok()) std::abort();
    if (from != nullptr && !device_.copy(memory, from, bytes).ok()) std::abort();
    return static_cast<float*>(memory);
  }
  Device& device_;
};

using Kernel = void (*)(const float*, float*);

struct Case {
  const char* name;
  Status (*run)(Buffers& b, Stream stream);
  const char* checked;         ///< part of the checked build's report; "": none
  const char* plain = "";      ///< part of every build's report, in every order; "": none
};

template <Kernel kernel, unsigned grid = 1, unsigned block = kThreads, std::size_t shared = 0>
Status start(Buffers& b, Stream stream) {
  return launch(kernel, dim3(grid), dim3(block), shared, stream, b.x, b.y);
}
template <Kernel kernel>
Status start_long(Buffers& b, Stream stream) {
  return launch(kernel, dim3(1), dim3(kThreads), 0, stream, b.x_long, b.y);
}

// The order decides which of the two accesses comes first: a read that does finds memory that nobody wrote.
const char* const kRaceInShared = "race on byte|read of memory that nobody wrote";

const Case kBugs[] = {
    {"no_barrier", start<no_barrier>, kRaceInShared},
    {"hidden_by_order", start<hidden_by_order>, kRaceInShared},
    {"reused_too_early", start<reused_too_early>, "race on byte"},
    {"partials_without_barrier", start<partials_without_barrier>, "static shared memory"},
    {"no_syncwarp", start<no_syncwarp>, kRaceInShared},
    {"lanes_read_each_other", start<lanes_read_each_other<false>>, "race on byte"},
    {"sum_without_atomics", start<sum_without_atomics>, "race on byte 0 of a device buffer of 1024"},
    {"block_index_forgotten", start<block_index_forgotten, 2>, "race on byte"},
    {"relies_on_block_order", start<relies_on_block_order, 2>, "race on byte"},
    {"last_block_without_fence",
     [](Buffers& b, Stream s) {
       return launch(sum_by_the_last_block<false>, dim3(8), dim3(32), 0, s, b.x, b.y, b.counter);
     },
     "race on byte"},
    {"written_after_other_blocks_read", start<written_after_other_blocks_read, 4, 32>, "race on byte"},
    {"reads_past_the_end", start<reads_past_the_end>, "access out of bounds: read of byte 1024"},
    {"writes_past_the_end", start<writes_past_the_end>, "access out of bounds: write to byte 1024"},
    {"static_array_too_small", start<static_array_too_small>, "access out of bounds: write to byte 1020 of static"},
    {"dynamic_array_too_small", start<dynamic_array_too_small, 1, kThreads, (kThreads - 1) * 4>,
     "access out of bounds: write to byte 1020 of dynamic shared memory of 1020"},
    {"shared_read_before_write", start<shared_read_before_write>, "read of memory that nobody wrote"},
    {"global_read_before_write",
     [](Buffers& b, Stream s) {
       return launch(global_read_before_write, dim3(1), dim3(kThreads), 0, s, b.scratch, b.y);
     },
     "read of memory that nobody wrote"},
    {"barrier_in_a_branch", start<barrier_in_a_branch>, "", "__syncthreads"},
    {"barriers_in_both_branches", start<barriers_in_both_branches>, "", "divergent __syncthreads"},
    {"early_return", start<early_return>, "", "__syncthreads"},
    {"shuffle_in_a_branch", start<shuffle_in_a_branch>, "", "warp collective"},
    {"copy_without_wait", start_long<copy_without_wait>, "read of memory that nobody wrote"},
    {"copy_without_barrier", start_long<copy_without_barrier>, kRaceInShared},
    {"copy_never_waited_for", start_long<copy_never_waited_for>, "", "nothing waited"},
    {"misaligned_copy", start_long<misaligned_copy>, "", "cp.async: an address is not a multiple"},
    {"host_pointer",
     [](Buffers& b, Stream s) {
       static const std::vector<float> host(kThreads);
       return launch(block_index_forgotten, dim3(1), dim3(kThreads), 0, s, host.data(), b.y);
     },
     "access to host memory from a kernel"},
};

const Case kSound[] = {
    {"partial_last_warp", start<partial_last_warp, 1, 50>, ""},
    {"atomics", start<atomics, 4>, ""},
    {"last_block_with_fence",
     [](Buffers& b, Stream s) {
       return launch(sum_by_the_last_block<true>, dim3(8), dim3(32), 0, s, b.x, b.y, b.counter);
     },
     ""},
    {"warps_leave", start<warps_leave>, ""},
    {"lanes_read_each_other", start<lanes_read_each_other<true>>, ""},
    {"divergent_halves", start<divergent_halves>, ""},
};

/// Runs the case on a fresh device in each order; the reports.
std::vector<std::string> reports(const Case& c) {
  std::vector<std::string> found;
  for (const Order order : {Order::in_order, Order::reverse, Order::random}) {
    Device device;
    device.options.order = order;
    Buffers buffers(device);
    const Stream stream = device.make_stream();
    const Status status = c.run(buffers, stream);
    found.emplace_back(status.ok() ? "" : status.what);
  }
  return found;
}

bool contains_one_of(const std::string& text, const std::string& parts) {
  for (std::size_t begin = 0;;) {
    const std::size_t end = parts.find('|', begin);
    if (text.find(parts.substr(begin, end - begin)) != std::string::npos) return true;
    if (end == std::string::npos) return false;
    begin = end + 1;
  }
}

TEST(PlantedBugs, AreReported) {
  for (const Case& bug : kBugs) {
    const std::string expected = *bug.plain != '\0' ? bug.plain : kChecked ? bug.checked : "";
    if (expected.empty()) continue;   // other builds see it: the sanitizers, or only the checker
    for (const std::string& report : reports(bug)) {
      EXPECT_TRUE(contains_one_of(report, expected)) << bug.name << ": " << report;
      EXPECT_NE(report.find("[block "), std::string::npos) << bug.name << ": " << report;
      if (report.find("race") != std::string::npos) {  // both lines are named
        EXPECT_NE(report.find(" at planted_bugs_test.cu:"), report.rfind(" at planted_bugs_test.cu:")) << report;
      }
    }
  }
}

#ifdef __SANITIZE_ADDRESS__

__global__ void misaligned_vector(const float* x, float* y) {
  const float4 v = *reinterpret_cast<const float4*>(x + 1);
  if (threadIdx.x == 0) y[0] = v.x;
}

// The address and undefined-behaviour sanitizers end the process.
TEST(PlantedBugsDeathTest, SanitizersSeeWhatTheyCan) {
  const auto run = [](const Case& bug) {
    Device device;
    Buffers buffers(device);
    (void)bug.run(buffers, device.make_stream());
  };
  const Case fatal[] = {
      {"reads_past_the_end", start<reads_past_the_end>, "use-after-poison"},
      {"writes_past_the_end", start<writes_past_the_end>, "use-after-poison"},
      {"static_array_too_small", start<static_array_too_small>, "use-after-poison"},
      {"dynamic_array_too_small", start<dynamic_array_too_small, 1, kThreads, (kThreads - 1) * 4>, "use-after-poison"},
      {"misaligned_vector", start<misaligned_vector>, "misaligned address"},
  };
  for (const Case& bug : fatal) EXPECT_DEATH(run(bug), bug.checked) << bug.name;
  Device device;
  const Buffers buffers(device);
  EXPECT_DEATH({ [[maybe_unused]] volatile float v = buffers.y[3]; }, "use-after-poison");
}

#endif

TEST(PlantedBugs, SoundKernelsPass) {
  for (const Case& sound : kSound)
    for (const std::string& report : reports(sound)) EXPECT_EQ(report, "") << sound.name;
}

}  // namespace
}  // namespace sinter::kernels::simt
