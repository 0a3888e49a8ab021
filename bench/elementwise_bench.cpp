// Memory-bound CPU kernels against the machine's own copy bandwidth, measured in the same rounds with the same number
// of threads: of a copy in memory (256 MB, the bound of all that does not stay in a cache), and of a copy of as many
// bytes as the kernel touches. GB/s count useful reads and writes (cost() of the contract).
//   elementwise_bench [Google Benchmark's options, e.g. --benchmark_filter=LayerNorm]
#include <benchmark/benchmark.h>
#include <immintrin.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "core/runtime/thread_pool.h"
#include "kernels/adamw.h"
#include "kernels/bias_gelu.h"
#include "kernels/dropout.h"
#include "kernels/layer_norm.h"

namespace {

namespace kernels = sinter::kernels;
using sinter::ThreadPool;
using sinter::bench::Array;
using sinter::bench::fastest_call;

constexpr int kRounds = 15;
constexpr double kMemoryCopyBytes = 256e6;
constexpr kernels::Dtype kDtype = kernels::Dtype::f32;

struct Row {
  std::string name;
  int threads;
  double megabytes;
  double kernel, memory_copy, equal_copy;  // GB/s
};
std::vector<Row> rows;

/// n floats by ordinary vector stores, which fetch each line of the destination first.
__attribute__((target("avx2"))) void copy_ordinary(float* to, const float* from, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) _mm256_storeu_ps(to + i, _mm256_loadu_ps(from + i));
  for (; i < n; ++i) to[i] = from[i];
}

/// A copy that a kernel is measured against: half of `bytes` to the other half, each thread its own slices, by the
/// fastest of three ways (memcpy may write around the caches, copy_ordinary does as kernels do).
class Copy {
 public:
  explicit Copy(double bytes)
      : n_(static_cast<std::int64_t>(bytes / 2 / sizeof(float))), from_(n_, kDtype, 1), to_(n_, kDtype, 2) {}

  double seconds(ThreadPool& pool) const {
    const auto* from = static_cast<const float*>(from_.data());
    auto* to = static_cast<float*>(to_.data());
    const auto timed = [&](std::int64_t slice, auto&& copy) {
      return fastest_call([&] {
        kernels::parallel_ranges(pool.stream(), n_, slice, [&](std::int64_t begin, std::int64_t end) {
          copy(to + begin, from + begin, end - begin);
        });
      });
    };
    const auto with_memcpy = [](float* dst, const float* src, std::int64_t n) {
      std::memcpy(dst, src, static_cast<std::size_t>(n) * sizeof(float));
    };
    // memcpy decides by the size that it is given: one slice a thread, and slices as kernels cut them.
    const std::int64_t whole = (n_ + pool.thread_count() - 1) / pool.thread_count();
    return std::min({timed(16384, copy_ordinary), timed(16384, with_memcpy), timed(whole, with_memcpy)});
  }
  double bytes() const { return 2.0 * static_cast<double>(n_) * sizeof(float); }

 private:
  std::int64_t n_;
  Array from_, to_;
};

/// Rounds of the kernel and of the copies in turn. `footprint`: bytes of distinct memory that the kernel touches.
template <class P>
void measure(benchmark::State& state, const std::string& name, const P& params, double footprint, int threads) {
  ThreadPool pool(threads);
  const Copy memory_copy(kMemoryCopyBytes), equal_copy(footprint);
  double kernel_seconds = HUGE_VAL, memory_seconds = HUGE_VAL, equal_seconds = HUGE_VAL;
  for (auto _ : state) {
    const double seconds = fastest_call([&] {
      if (!kernels::run(kernels::cpu_module(), params, pool.stream()).ok()) state.SkipWithError("the kernel refused");
    });
    kernel_seconds = std::min(kernel_seconds, seconds);
    memory_seconds = std::min(memory_seconds, memory_copy.seconds(pool));
    equal_seconds = std::min(equal_seconds, equal_copy.seconds(pool));
    state.SetIterationTime(seconds);
  }
  const Row row = {name, threads, footprint * 1e-6, cost(params).bytes() / kernel_seconds * 1e-9,
                   memory_copy.bytes() / memory_seconds * 1e-9, equal_copy.bytes() / equal_seconds * 1e-9};
  rows.push_back(row);
  state.counters["GB/s"] = row.kernel;
  state.counters["of_memory_copy"] = row.kernel / row.memory_copy;
  state.counters["of_equal_copy"] = row.kernel / row.equal_copy;
}

std::string shape(std::int64_t r, std::int64_t c) { return " " + std::to_string(r) + "x" + std::to_string(c); }

void layer_norm(benchmark::State& state, std::int64_t r, std::int64_t c, int threads) {
  const Array x(r * c, kDtype, 1), y(r * c, kDtype, 2), gamma(c, kDtype, 3), beta(c, kDtype, 4), mean(r, kDtype, 5),
      rstd(r, kDtype, 6);
  kernels::LayerNorm p;
  p.rows = r, p.cols = c;
  p.x = x.data(), p.y = y.data(), p.gamma = gamma.data(), p.beta = beta.data();
  p.mean = mean.data(), p.rstd = rstd.data();
  measure(state, "LayerNorm" + shape(r, c), p, cost(p).bytes(), threads);
}

void layer_norm_backward(benchmark::State& state, std::int64_t r, std::int64_t c, int threads) {
  const Array dy(r * c, kDtype, 1), x(r * c, kDtype, 2), dx(r * c, kDtype, 3), gamma(c, kDtype, 4), mean(r, kDtype, 5),
      rstd(r, kDtype, 6), dgamma(c, kDtype, 7), dbeta(c, kDtype, 8);
  const Array workspace(2 * ((r + 63) / 64) * c, kDtype, 9);
  kernels::LayerNormBackward p;
  p.rows = r, p.cols = c;
  p.dy = dy.data(), p.x = x.data(), p.mean = mean.data(), p.rstd = rstd.data(), p.gamma = gamma.data();
  p.dx = dx.data(), p.dgamma = dgamma.data(), p.dbeta = dbeta.data(), p.workspace = workspace.data();
  measure(state, "LayerNormBackward" + shape(r, c), p, cost(p).bytes(), threads);
}

void bias_gelu(benchmark::State& state, std::int64_t r, std::int64_t c, int threads) {
  const Array x(r * c, kDtype, 1), y(r * c, kDtype, 2), bias(c, kDtype, 3);
  kernels::BiasGelu p;
  p.rows = r, p.cols = c;
  p.x = x.data(), p.y = y.data(), p.bias = bias.data();
  measure(state, "BiasGelu" + shape(r, c), p, cost(p).bytes(), threads);
}

void bias_gelu_backward(benchmark::State& state, std::int64_t r, std::int64_t c, int threads) {
  const Array dy(r * c, kDtype, 1), x(r * c, kDtype, 2), dx(r * c, kDtype, 3), bias(c, kDtype, 4), dbias(c, kDtype, 5);
  const Array workspace(((r + 63) / 64) * c, kDtype, 6);
  kernels::BiasGeluBackward p;
  p.rows = r, p.cols = c;
  p.dy = dy.data(), p.x = x.data(), p.dx = dx.data(), p.bias = bias.data(), p.dbias = dbias.data();
  p.workspace = workspace.data();
  measure(state, "BiasGeluBackward" + shape(r, c), p, cost(p).bytes(), threads);
}

void dropout(benchmark::State& state, std::int64_t r, std::int64_t c, int threads) {
  const Array x(r * c, kDtype, 1), y(r * c, kDtype, 2);
  const std::uint32_t step = 1;
  kernels::Dropout p;
  p.rows = r, p.cols = c;
  p.dropout.step = &step;
  p.dropout.threshold = kernels::dropout_threshold(0.1);
  p.x = x.data(), p.y = y.data();
  measure(state, "Dropout" + shape(r, c), p, cost(p).bytes(), threads);
}

void adamw(benchmark::State& state, std::int64_t n, int threads) {
  const Array grad(n, kDtype, 1), param(n, kDtype, 2), m(n, kDtype, 3), v(n, kDtype, 4);
  for (std::int64_t i = 0; i < n; ++i) static_cast<float*>(v.data())[i] = 0.5f;
  const kernels::AdamWGroup group = {0, n};
  const kernels::AdamWCoefficients coefficients = kernels::coefficients(2e-5, 0.01, 0.9, 0.999, 10);
  kernels::AdamW p;
  p.groups = &group, p.group_count = 1;
  p.coefficients = &coefficients;
  p.grad = grad.data(), p.param = param.data(), p.exp_avg = m.data(), p.exp_avg_sq = v.data();
  const double footprint = 4.0 * sizeof(float) * static_cast<double>(n);
  measure(state, "AdamW " + std::to_string(n), p, footprint, threads);
}

void squared_norm(benchmark::State& state, std::int64_t n, int threads) {
  const Array x(n, kDtype, 1), workspace((n + 4095) / 4096, kernels::Dtype::f64, 2);
  double sum = 0;
  kernels::SquaredNorm p;
  p.n = n;
  p.x = x.data(), p.sum = &sum, p.workspace = workspace.data();
  measure(state, "SquaredNorm " + std::to_string(n), p, cost(p).bytes(), threads);
}

void add(const std::string& name, const std::function<void(benchmark::State&, int)>& run) {
  for (const int threads : {1, 2})
    benchmark::RegisterBenchmark((name + "_t" + std::to_string(threads)).c_str(),
                                 [=](benchmark::State& state) { run(state, threads); })
        ->Iterations(kRounds)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

using Shaped = void (*)(benchmark::State&, std::int64_t, std::int64_t, int);
void add(const std::string& name, Shaped run, std::int64_t cols) {
  // 213 and 2048 tokens (in L2 or L3), and a batch that no cache holds.
  for (const std::int64_t r : {std::int64_t{213}, std::int64_t{2048}, 8192 * 3072 / cols})
    add(name + "_" + std::to_string(r) + "x" + std::to_string(cols),
        [=](benchmark::State& state, int threads) { run(state, r, cols, threads); });
}

}  // namespace

int main(int argc, char** argv) {
  add("LayerNorm", layer_norm, 768);
  add("LayerNormBackward", layer_norm_backward, 768);
  add("BiasGelu", bias_gelu, 3072);
  add("BiasGeluBackward", bias_gelu_backward, 3072);
  add("Dropout", dropout, 768);
  for (const std::int64_t n : {1 << 17, 1 << 20, 28 << 20}) {
    const std::string size = std::to_string(n);
    add("AdamW_" + size, [=](benchmark::State& state, int threads) { adamw(state, n, threads); });
    add("SquaredNorm_" + size, [=](benchmark::State& state, int threads) { squared_norm(state, n, threads); });
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  std::printf("\n%s; GB/s of useful reads and writes, fastest call in %d rounds\n\n", kernels::cpu_module().description,
              kRounds);
  std::printf("| kernel | threads | MB touched | GB/s | memory copy | share | equal copy | share |\n"
              "|---|---|---|---|---|---|---|---|\n");
  for (const Row& r : rows)
    std::printf("| %s | %d | %.1f | %.1f | %.1f | %.2f | %.1f | %.2f |\n", r.name.c_str(), r.threads, r.megabytes,
                r.kernel, r.memory_copy, r.kernel / r.memory_copy, r.equal_copy, r.kernel / r.equal_copy);
  return 0;
}
