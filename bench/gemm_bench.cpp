// The CPU's matrix product against oneDNN, at the shapes of BERT's linear layers. In every round each implementation
// runs for a while, so that a disturbance of the machine meets all of them; the fastest call of each counts.
//   gemm_bench [--isa=avx2] [--dtype=f64] [Google Benchmark's options, e.g. --benchmark_filter=m480]
// oneDNN has no f64 product; with --dtype=f64 its column and the ratio are 0. --isa holds for both.
#include <benchmark/benchmark.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <dnnl.hpp>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "bench/measure.h"
#include "core/runtime/thread_pool.h"
#include "kernels/gemm.h"

namespace {

using sinter::ThreadPool;
using sinter::bench::Array;
using sinter::bench::fastest_call;
namespace kernels = sinter::kernels;
using kernels::Gemm;

constexpr int kEigen = 0, kPacked = 1;  // variants in kernels/cpu/gemm.cpp
constexpr int kRounds = 9;

struct Layer {
  std::int64_t n, k;  // out_features, in_features
};
constexpr Layer kLayers[] = {{768, 768}, {3072, 768}, {768, 3072}, {384, 384}, {1536, 384},
                             {384, 1536}, {128, 128}, {512, 128}, {128, 512}};
constexpr std::int64_t kTokens[] = {213, 480, 2048};

enum class Product { forward, input, weight };
const char* name(Product product) {
  constexpr const char* names[] = {"forward", "dX", "dW"};
  return names[static_cast<int>(product)];
}

struct Options {
  const kernels::BackendModule* module = nullptr;
  kernels::Dtype dtype = kernels::Dtype::f32;
};
Options options;

/// The product as the contract states it. Forward Y = X W^T + b; dX = dY W; dW = dY^T X.
Gemm shape_of(Product product, std::int64_t tokens, Layer layer) {
  Gemm p;
  p.dtype = options.dtype;
  switch (product) {
    case Product::forward:
      p.m = tokens, p.n = layer.n, p.k = layer.k;
      p.transpose_b = true;
      break;
    case Product::input:
      p.m = tokens, p.n = layer.k, p.k = layer.n;
      break;
    case Product::weight:
      p.m = layer.n, p.n = layer.k, p.k = tokens;
      p.transpose_a = true;
      break;
  }
  p.lda = p.transpose_a ? p.m : p.k;
  p.ldb = p.transpose_b ? p.k : p.n;
  p.ldc = p.n;
  return p;
}

/// oneDNN's matmul on the same memory in the same plain layouts.
class OneDnn {
 public:
  explicit OneDnn(const Gemm& p) : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using Md = dnnl::memory::desc;
    const auto f32 = dnnl::memory::data_type::f32;
    const auto strides = [](bool transposed, std::int64_t ld) {
      return transposed ? dnnl::memory::dims{1, ld} : dnnl::memory::dims{ld, 1};
    };
    const Md a({p.m, p.k}, f32, strides(p.transpose_a, p.lda)), b({p.k, p.n}, f32, strides(p.transpose_b, p.ldb));
    const Md c({p.m, p.n}, f32, dnnl::memory::dims{p.ldc, 1}), bias({1, p.n}, f32, dnnl::memory::dims{p.n, 1});
    const dnnl::matmul::desc desc = p.bias != nullptr ? dnnl::matmul::desc(a, b, bias, c) : dnnl::matmul::desc(a, b, c);
    const dnnl::matmul::primitive_desc primitive(desc, engine_);
    matmul_ = dnnl::matmul(primitive);
    implementation_ = primitive.impl_info_str();
    const auto memory = [&](const Md& md, const void* data) {
      return dnnl::memory(md, engine_, const_cast<void*>(data));
    };
    arguments_ = {{DNNL_ARG_SRC, memory(a, p.a)}, {DNNL_ARG_WEIGHTS, memory(b, p.b)}, {DNNL_ARG_DST, memory(c, p.c)}};
    if (p.bias != nullptr) arguments_.emplace(DNNL_ARG_BIAS, memory(bias, p.bias));
  }
  void run() {
    matmul_.execute(stream_, arguments_);
    stream_.wait();
  }
  const std::string& implementation() const { return implementation_; }

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul matmul_;
  std::string implementation_;
  std::unordered_map<int, dnnl::memory> arguments_;
};

double largest_difference(const Array& x, const Array& y) {
  double largest = 0;
  const float* a = static_cast<const float*>(x.memory.get());
  const float* b = static_cast<const float*>(y.memory.get());
  for (std::size_t i = 0; i < x.bytes / sizeof(float); ++i) largest = std::max(largest, std::abs(double{a[i]} - b[i]));
  return largest;
}

struct Row {
  std::string shape;
  Product product;
  int threads;
  double packed, eigen, onednn;  // GFLOP/s
  double ratio() const { return onednn > 0 ? packed / onednn : 0; }
};
std::vector<Row> rows;

void compare(benchmark::State& state, Product product, std::int64_t tokens, Layer layer, int threads) {
  Gemm p = shape_of(product, tokens, layer);
  const Array a(p.m * p.k, p.dtype, 1), b(p.k * p.n, p.dtype, 2), bias(p.n, p.dtype, 3);
  const Array c(p.m * p.n, p.dtype, 4), other(p.m * p.n, p.dtype, 5);
  p.a = a.memory.get();
  p.b = b.memory.get();
  p.c = c.memory.get();
  if (product == Product::forward) p.bias = bias.memory.get();
  ThreadPool pool(threads);
  omp_set_num_threads(threads);
  const bool has_rival = p.dtype == kernels::Dtype::f32;
  Gemm q = p;
  q.c = other.memory.get();
  std::unique_ptr<OneDnn> rival = has_rival ? std::make_unique<OneDnn>(q) : nullptr;
  const auto ours = [&](int variant) {
    if (!run(*options.module, p, pool.stream(), variant).ok()) state.SkipWithError("the kernel refused");
  };
  ours(kPacked);
  if (has_rival) {
    rival->run();
    // Sums of k products of normal numbers, rounded k times in another order (see tests/kernels/gemm_test.cpp).
    if (largest_difference(c, other) > 1e-6 * static_cast<double>(p.k)) state.SkipWithError("the results differ");
  }
  double packed = HUGE_VAL, eigen = HUGE_VAL, onednn = HUGE_VAL;
  for (auto _ : state) {
    const double seconds = fastest_call([&] { ours(kPacked); });
    packed = std::min(packed, seconds);
    if (has_rival) onednn = std::min(onednn, fastest_call([&] { rival->run(); }));
    eigen = std::min(eigen, fastest_call([&] { ours(kEigen); }));
    state.SetIterationTime(seconds);
  }
  const double gflop = cost(p).flops * 1e-9;
  const Row row = {"M=" + std::to_string(tokens) + " N=" + std::to_string(layer.n) + " K=" + std::to_string(layer.k),
                   product, threads, gflop / packed, gflop / eigen, gflop / onednn};
  rows.push_back(row);
  state.counters["packed"] = row.packed;
  state.counters["eigen"] = row.eigen;
  state.counters["oneDNN"] = row.onednn;
  state.counters["ratio"] = row.ratio();
  if (has_rival) state.SetLabel(rival->implementation());
}

void add(Product product, std::int64_t tokens, Layer layer, int threads) {
  char label[64];
  std::snprintf(label, sizeof(label), "m%d_n%d_k%d_%s_t%d", static_cast<int>(tokens), static_cast<int>(layer.n),
                static_cast<int>(layer.k), name(product), threads);
  benchmark::RegisterBenchmark(
      label, [=](benchmark::State& state) { compare(state, product, tokens, layer, threads); })
      ->Iterations(kRounds)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

void print_summary() {
  std::printf("\nGFLOP/s of the fastest call in %d rounds; ratio = sinter packed / oneDNN\n\n", kRounds);
  std::printf("| shape | product | threads | packed | eigen | oneDNN | ratio |\n|---|---|---|---|---|---|---|\n");
  for (const Row& r : rows)
    std::printf("| %s | %s | %d | %.1f | %.1f | %.1f | %.2f |\n", r.shape.c_str(),
                name(r.product), r.threads, r.packed, r.eigen, r.onednn, r.ratio());
  std::printf("\n| product | threads | shapes | ratio min | ratio mean | packed / eigen min | mean |\n"
              "|---|---|---|---|---|---|---|\n");
  for (const Product product : {Product::forward, Product::input, Product::weight})
    for (const int threads : {1, 2}) {
      double least = HUGE_VAL, sum = 0, least_eigen = HUGE_VAL, sum_eigen = 0;
      int count = 0;
      for (const Row& r : rows) {
        if (r.product != product || r.threads != threads) continue;
        least = std::min(least, r.ratio());
        sum += r.ratio();
        least_eigen = std::min(least_eigen, r.packed / r.eigen);
        sum_eigen += r.packed / r.eigen;
        ++count;
      }
      if (count > 0)
        std::printf("| %s | %d | %d | %.2f | %.2f | %.2f | %.2f |\n", name(product), threads, count,
                    least, sum / count, least_eigen, sum_eigen / count);
    }
}

/// Takes our own options out of the command line.
bool parse(int* argc, char** argv) {
  options.module = &kernels::cpu_module();
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--isa=avx2") {
      options.module = kernels::cpu_module(kernels::CpuIsa::avx2);
      dnnl::set_max_cpu_isa(dnnl::cpu_isa::avx2);
    } else if (argument == "--dtype=f64") {
      options.dtype = kernels::Dtype::f64;
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  return options.module != nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (!parse(&argc, argv)) {
    std::fprintf(stderr, "this machine cannot run that instruction set\n");
    return 2;
  }
  for (const std::int64_t tokens : kTokens)
    for (const Layer layer : kLayers)
      for (const Product product : {Product::forward, Product::input, Product::weight})
        for (const int threads : {1, 2}) add(product, tokens, layer, threads);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  std::printf("sinter %s\n", options.module->description);
  benchmark::RunSpecifiedBenchmarks();
  print_summary();
  return 0;
}
