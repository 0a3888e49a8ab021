// Every CUDA kernel at the shapes of BERT-base, each variant: time, bandwidth, arithmetic, and the goal where there is
// one. Prints a table in Markdown.
//   kbench [part of a name]
//
// Calls are recorded into a graph, so that launching costs the host nothing, and rotate through so many copies of their
// operands that they touch 256 MB in all, so that none is in the L2 cache. Where 256 copies are less than that, the row
// is named "in L2". A figure is the median of 9 replays of at least 2 ms; the spread is that of the middle 7. Bandwidth
// counts what the contract's cost() must move, and stands beside that of a plain copy on the same machine.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "bench/kbench_cases.h"
#include "kernels/cuda/module.h"

namespace {

using namespace sinter::kernels;
using sinter::bench::Goal;
using sinter::bench::KernelCase;

void must(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "kbench: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

struct Timing {
  double microseconds = 0, spread = 0;   ///< of one call; spread as a share of it
};

constexpr int kReplays = 9;

class Timer {
 public:
  Timer() {
    must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    must(cudaEventCreate(&begin_));
    must(cudaEventCreate(&end_));
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  Stream stream() const { return {stream_}; }

  /// Time of one of the `calls` calls that `enqueue()` puts into the stream.
  template <class Enqueue>
  Timing time(int calls, Enqueue&& enqueue) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    must(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    enqueue();
    must(cudaStreamEndCapture(stream_, &graph));
    must(cudaGraphInstantiate(&executable, graph, 0));
    const double once = replay(executable, 2);
    const int times = std::max(1, static_cast<int>(std::ceil(2000.0 / once)));
    std::array<double, kReplays> all;
    for (double& one : all) one = replay(executable, times) / calls;
    must(cudaGraphExecDestroy(executable));
    must(cudaGraphDestroy(graph));
    std::sort(all.begin(), all.end());
    const double median = all[kReplays / 2];
    return {median, (all[kReplays - 2] - all[1]) / median};
  }

 private:
  /// Microseconds of one replay, the mean of `times`.
  double replay(cudaGraphExec_t executable, int times) {
    must(cudaEventRecord(begin_, stream_));
    for (int i = 0; i < times; ++i) must(cudaGraphLaunch(executable, stream_));
    must(cudaEventRecord(end_, stream_));
    must(cudaEventSynchronize(end_));
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, begin_, end_));
    return 1000.0 * milliseconds / times;
  }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// Bytes read and written a microsecond by a copy of 1 GB inside the device.
double copy_speed(Timer& timer) {
  constexpr std::size_t bytes = std::size_t{1} << 30;
  void *from = nullptr, *to = nullptr;
  must(cudaMalloc(&from, bytes));
  must(cudaMalloc(&to, bytes));
  must(cudaMemset(from, 1, bytes));
  const Timing timing = timer.time(1, [&] {
    must(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, static_cast<cudaStream_t>(timer.stream().handle)));
  });
  must(cudaFree(from));
  must(cudaFree(to));
  return 2.0 * static_cast<double>(bytes) / timing.microseconds;
}

/// "met", or how far: "0.71 of it"; "" without a goal.
std::string judged(const Goal& goal, const Cost& cost, const Timing& timing, double copy) {
  double reached = 0;
  if (goal.of_copy > 0) reached = cost.bytes() / timing.microseconds / copy / goal.of_copy;
  if (goal.tflops > 0) reached = cost.flops / timing.microseconds * 1e-6 / goal.tflops;
  if (goal.microseconds > 0) reached = goal.microseconds / timing.microseconds;
  if (reached == 0) return "";
  char text[32];
  std::snprintf(text, sizeof text, reached >= 1 ? "met (%.2f)" : "%.2f of it", reached);
  return text;
}

std::string shown(const Goal& goal) {
  char text[32] = "";
  if (goal.of_copy > 0) std::snprintf(text, sizeof text, "%.0f %% of copy", 100 * goal.of_copy);
  if (goal.tflops > 0) std::snprintf(text, sizeof text, "%.0f TFLOP/s", goal.tflops);
  if (goal.microseconds > 0) std::snprintf(text, sizeof text, "%.0f us", goal.microseconds);
  return text;
}

/// Touched bytes of all copies together with which none is in L2 when its turn comes: some times the 50 MB of an H200.
constexpr double kBeyondL2 = 256e6;
constexpr int kMostCopies = 256;

/// Of one call. A part of the operands where these are tables.
double touched_bytes(const KernelCase& made) {
  return std::min(static_cast<double>(made.operand_bytes()), made.work().bytes());
}
int copies_of(const KernelCase& made) {
  return static_cast<int>(std::clamp<double>(std::ceil(kBeyondL2 / touched_bytes(made)), 1, kMostCopies));
}
bool stays_in_l2(const KernelCase& made) { return touched_bytes(made) * made.copies() < kBeyondL2; }

void print_row(const KernelCase& made, const Variant& variant, bool selected, const Timing& timing, double copy) {
  const Cost& work = made.work();
  std::printf("| %s%s | %s%s | %.2f | %.1f | %.0f | %.0f | %.1f | %s | %s |\n", made.name().c_str(),
              stays_in_l2(made) ? ", in L2" : "", variant.name, selected ? " *" : "", timing.microseconds,
              100 * timing.spread, work.bytes() / timing.microseconds * 1e-3,
              100 * work.bytes() / timing.microseconds / copy, work.flops / timing.microseconds * 1e-6,
              shown(made.goal()).c_str(), selected ? judged(made.goal(), work, timing, copy).c_str() : "");
  std::fflush(stdout);
}

/// False when a variant fails.
bool measure(KernelCase& made, const BackendModule& backend, Timer& timer, double copy) {
  const KernelEntry* const entry = find(backend, made.id());
  if (entry == nullptr) {
    std::printf("| %s | not there yet | | | | | | | |\n", made.name().c_str());
    return true;
  }
  const auto fails = [&](const Status& status) {
    if (!status.ok()) std::printf("| %s | fails: %s | | | | | | | |\n", made.name().c_str(), status.what);
    return !status.ok();
  };
  if (fails(made.place(backend, copies_of(made)))) return false;
  const int selected = entry->select(made.params(0));
  for (int variant = 0; variant < entry->variant_count; ++variant) {
    const auto call = [&](int i) {
      return run(backend, made.id(), made.params_size(), made.params(i), timer.stream(), variant);
    };
    Status status = call(0);
    if (status.code == StatusCode::unsupported) continue;
    if (status.ok()) status = backend.device->synchronize(0, timer.stream());
    if (fails(status)) return false;
    const Timing timing = timer.time(made.copies(), [&] {
      for (int i = 0; i < made.copies(); ++i)
        if (const Status one = call(i); !one.ok()) status = one;
    });
    if (fails(status)) return false;
    print_row(made, entry->variants[variant], variant == selected, timing, copy);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  const BackendModule& backend = cuda_referee_module();
  if (backend.device->device_count() == 0) {
    std::printf("not measured here: %s\n", backend.device->why_unavailable());
    return 77;
  }
  Timer timer;
  const double copy = copy_speed(timer);
  std::printf("%s, %s; a plain copy moves %.0f GB/s. The selected variant has a star.\n\n",
              backend.device->device_name(0), backend.description, copy * 1e-3);
  std::printf("| kernel | variant | us | spread %% | GB/s | %% of copy | TFLOP/s | goal | reached |\n"
              "|---|---|---|---|---|---|---|---|---|\n");
  bool good = true;
  for (const sinter::bench::MakeCase& make : sinter::bench::kernel_cases({})) {
    const std::unique_ptr<KernelCase> made = make();
    if (argc > 1 && made->name().find(argv[1]) == std::string::npos) continue;
    good = measure(*made, backend, timer, copy) && good;
  }
  return good ? 0 : 1;
}
