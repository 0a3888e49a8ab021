// Attention forward and backward on the CPU at the shapes of BERT fine-tuning. GFLOP/s count the useful products only
// (cost() of the contract: 4 and 10 FLOPs for each query, key and element of a head).
//   attention_bench [Google Benchmark's options, e.g. --benchmark_filter=16x128]
#include <benchmark/benchmark.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "core/runtime/thread_pool.h"
#include "kernels/attention.h"

namespace {

namespace kernels = sinter::kernels;
using sinter::bench::Array;

constexpr int kRounds = 15;

/// SST-2 as it comes: 16 sequences of 3 to 60 tokens, 13.3 on average.
const std::vector<int> kSst2 = {3, 4, 5, 6, 7, 8, 9, 9, 10, 11, 12, 14, 16, 18, 21, 60};

struct Shape {
  std::string name;
  std::vector<int> lengths;
  std::int64_t heads, head_size;
};

/// One batch: q, k and v in a fused [tokens, 3 * hidden] buffer, the gradients likewise.
class Case {
 public:
  Case(const Shape& shape, double dropout)
      : offsets_(ends(shape.lengths)), hidden_(shape.heads * shape.head_size),
        threshold_(kernels::dropout_threshold(dropout)), shape_(shape), qkv_(tokens() * 3 * hidden_, kDtype, 1),
        d_qkv_(tokens() * 3 * hidden_, kDtype, 2), o_(tokens() * hidden_, kDtype, 3),
        d_o_(tokens() * hidden_, kDtype, 4), lse_(tokens() * shape.heads, kDtype, 5) {}

  kernels::Attention forward() const {
    auto p = common<kernels::Attention>();
    p.o = o_.data();
    p.lse = lse_.data();
    return p;
  }
  kernels::AttentionBackward backward() const {
    auto p = common<kernels::AttentionBackward>();
    p.o = o_.data();
    p.d_o = d_o_.data();
    p.lse = lse_.data();
    p.stride_do = hidden_;
    p.stride_dq = p.stride_dk = p.stride_dv = 3 * hidden_;
    p.dq = third(d_qkv_, 0);
    p.dk = third(d_qkv_, 1);
    p.dv = third(d_qkv_, 2);
    return p;
  }

 private:
  static constexpr kernels::Dtype kDtype = kernels::Dtype::f32;

  static std::vector<std::int32_t> ends(const std::vector<int>& lengths) {
    std::vector<std::int32_t> offsets{0};
    for (const int length : lengths) offsets.push_back(offsets.back() + length);
    return offsets;
  }
  std::int64_t tokens() const { return offsets_.back(); }
  void* third(const Array& buffer, int i) const { return static_cast<float*>(buffer.data()) + i * hidden_; }

  template <class P>
  P common() const {
    P p;
    p.tokens = tokens();
    p.sequences = static_cast<std::int64_t>(shape_.lengths.size());
    p.heads = shape_.heads;
    p.head_size = shape_.head_size;
    p.max_length = *std::max_element(shape_.lengths.begin(), shape_.lengths.end());
    for (const std::int64_t length : shape_.lengths) p.pairs += length * length;
    p.scale = 0.125;
    p.dropout = {1, &step_, nullptr, 0, threshold_};
    p.offsets = offsets_.data();
    p.q = third(qkv_, 0);
    p.k = third(qkv_, 1);
    p.v = third(qkv_, 2);
    p.stride_q = p.stride_k = p.stride_v = 3 * hidden_;
    p.stride_o = hidden_;
    return p;
  }

  std::vector<std::int32_t> offsets_;
  std::int64_t hidden_;
  std::uint32_t threshold_, step_ = 1;
  Shape shape_;
  Array qkv_, d_qkv_, o_, d_o_, lse_;
};

template <class P>
void measure(benchmark::State& state, const P& params, int threads) {
  sinter::ThreadPool pool(threads);
  double fastest = HUGE_VAL;
  for ([[maybe_unused]] const auto round : state) {
    kernels::Status status;
    const double seconds =
        sinter::bench::fastest_call([&] { status = kernels::run(kernels::cpu_module(), params, pool.stream()); });
    if (!status.ok()) return state.SkipWithError(status.what);
    state.SetIterationTime(seconds);
    fastest = std::min(fastest, seconds);
  }
  state.counters["best_us"] = fastest * 1e6;
  state.counters["GFLOP/s"] = cost(params).flops / fastest * 1e-9;
}

void add(const Shape& shape, double dropout, int threads) {
  const std::string name = shape.name + "_" + std::to_string(shape.heads) + "x" + std::to_string(shape.head_size) +
                           (dropout > 0 ? "_dropout" : "") + "_t" + std::to_string(threads);
  const auto add_one = [&](const std::string& what, void (*run)(benchmark::State&, const Case&, int)) {
    benchmark::RegisterBenchmark((what + "_" + name).c_str(), [=](benchmark::State& state) {
      const Case data(shape, dropout);
      if (!kernels::run(kernels::cpu_module(), data.forward()).ok()) return state.SkipWithError("forward failed");
      run(state, data, threads);
    })->Iterations(kRounds)->UseManualTime()->Unit(benchmark::kMicrosecond);
  };
  add_one("Attention", [](benchmark::State& state, const Case& data, int t) { measure(state, data.forward(), t); });
  add_one("AttentionBackward",
          [](benchmark::State& state, const Case& data, int t) { measure(state, data.backward(), t); });
}

}  // namespace

int main(int argc, char** argv) {
  const Shape shapes[] = {{"sst2", kSst2, 12, 64},
                          {"sst2", kSst2, 12, 32},
                          {"16x128", std::vector<int>(16, 128), 12, 64},
                          {"16x128", std::vector<int>(16, 128), 12, 32},
                          {"4x512", std::vector<int>(4, 512), 12, 64}};
  for (const Shape& shape : shapes)
    for (const double dropout : {0.0, 0.1})
      for (const int threads : {1, 2}) add(shape, dropout, threads);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
