// Calls large enough that the CPU kernels split them into several tasks (their grains are 8,192 to 32,768 elements),
// which the small samples never are: the bits must be the same for every number of threads, and in poisoned memory.
#include <gtest/gtest.h>

#include "core/ops/attention.h"
#include "core/ops/cross_entropy.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/embedding.h"
#include "core/ops/gather.h"
#include "core/ops/gelu.h"
#include "core/ops/layer_norm.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/ops/registry.h"
#include "core/ops/shape.h"
#include "core/ops/softmax.h"
#include "core/runtime/runtime.h"
#include "tests/ops/dropout_factors.h"
#include "tests/ops/run_sample.h"

namespace sinter::testing {
namespace {

constexpr std::int64_t kRows = 301, kCols = 257;

/// n indices below `limit`, with repetitions and without order.
Tensor scattered(std::int64_t n, std::int64_t limit, const Shape& shape) {
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < n; ++i) values.push_back(i * 7919 % limit);
  return Tensor::from(values, shape);
}

class LargeSamples {
 public:
  LargeSamples() {
    elementwise();
    moves();
    products();
    rows();
    model();
  }
  const std::vector<Sample>& all() const { return samples_; }

 private:
  void add(const char* op, const char* label, Tensors inputs, std::function<Tensor(Inputs)> call) {
    samples_.push_back({.op = op, .label = label, .inputs = std::move(inputs),
                        .call = [call = std::move(call)](Inputs in) {
                          const StepScope scope(kSeed, kStep, kFirstSample);
                          return Tensors{call(in)};
                        }});
  }

  void elementwise() {
    using UnaryCall = Tensor (*)(const Tensor&);
    const std::pair<const char*, UnaryCall> unary[] = {
        {"neg", neg}, {"abs", abs}, {"exp", exp}, {"log", log}, {"sqrt", sqrt}, {"rsqrt", rsqrt},
        {"reciprocal", reciprocal}, {"sin", sin}, {"cos", cos}, {"tanh", tanh}, {"erf", erf}, {"sigmoid", sigmoid},
        {"relu", relu}};
    const Tensor positive = uniform({kRows, kCols}, 0.5, 2, 70);
    for (const auto& [op, call] : unary) add(op, "large", {positive}, [call = call](Inputs in) { return call(in[0]); });
    add("add_scalar", "large", {x_}, [](Inputs in) { return in[0] + 2.0; });
    add("mul_scalar", "large", {x_}, [](Inputs in) { return in[0] * -3.0; });
    add("pow_scalar", "large", {positive}, [](Inputs in) { return pow(in[0], 2.5); });
    using BinaryCall = Tensor (*)(const Tensor&, const Tensor&);
    const std::pair<const char*, BinaryCall> binary[] = {{"add", sinter::add}, {"sub", sub}, {"mul", mul}, {"div", div},
                                                         {"maximum", maximum}, {"minimum", minimum}, {"compare", lt}};
    for (const auto& [op, call] : binary) {
      const auto both = [call = call](Inputs in) { return call(in[0], in[1]); };
      add(op, "large", {x_, positive}, both);
      add(op, "large, a row", {x_, uniform({kCols}, 0.5, 2, 71)}, both);
      add(op, "large, a column", {x_, uniform({kRows, 1}, 0.5, 2, 72)}, both);
    }
    const Tensor condition = lt(x_, Tensor::zeros({}, {Dtype::f64}));
    add("where", "large", {condition, x_, positive}, [](Inputs in) { return where(in[0], in[1], in[2]); });
    add("logical_not", "large", {condition}, [](Inputs in) { return logical_not(in[0]); });
    add("logical", "large", {condition, condition}, [](Inputs in) { return logical_and(in[0], in[1]); });
  }

  void moves() {
    add("contiguous", "large, transposed", {x_}, [](Inputs in) { return in[0].transpose(0, 1).contiguous(); });
    add("cast", "large", {x_}, [](Inputs in) { return in[0].to(Dtype::bf16); });
    add("reshape", "large, a copy", {x_}, [](Inputs in) { return in[0].transpose(0, 1).reshape({kRows, kCols}); });
    add("expand", "large", {normal({1, kCols}, 73)}, [](Inputs in) { return in[0].expand({kRows, kCols}); });
    add("permute", "large", {x_}, [](Inputs in) { return in[0].permute({1, 0}); });
    add("narrow", "large", {x_}, [](Inputs in) { return in[0].narrow(0, 1, kRows - 2); });
    add("cat", "large", {x_, x_}, [](Inputs in) { return cat({in[0], in[1]}, 1); });
    for (const int d : {0, 1}) {
      const char* label = d == 0 ? "large, over rows" : "large, over columns";
      add("sum", label, {x_}, [d](Inputs in) { return sum(in[0], {d}); });
      add("amax", label, {x_}, [d](Inputs in) { return amax(in[0], {d}); });
      add("amin", label, {x_}, [d](Inputs in) { return amin(in[0], {d}); });
      add("argmax", label, {x_}, [d](Inputs in) { return argmax(in[0], d); });
    }
    add("sum", "large, all", {x_}, [](Inputs in) { return sum(in[0]); });
    const Tensor rows = scattered(2 * kRows, 97, {2 * kRows}), places = scattered(kRows * kCols, 97, {kRows, kCols});
    add("index_select", "large", {x_, rows}, [](Inputs in) { return index_select(in[0], 0, in[1]); });
    add("index_add", "large", {x_, rows, normal({2 * kRows, kCols}, 74)},
        [](Inputs in) { return index_add(in[0], 0, in[1], in[2]); });
    for (const int d : {0, 1}) {
      const char* label = d == 0 ? "large, along rows" : "large, along columns";
      add("gather", label, {x_, places}, [d](Inputs in) { return gather(in[0], d, in[1]); });
      add("scatter_add", label, {x_, places, normal({kRows, kCols}, 75)},
          [d](Inputs in) { return scatter_add(in[0], d, in[1], in[2]); });
    }
  }

  void products() {
    const auto product = [](Inputs in) { return matmul(in[0], in[1]); };
    add("matmul", "large", {x_, normal({kCols, 193}, 76)}, product);
    add("matmul", "many", {normal({12, 65, 33}, 77), normal({12, 33, 65}, 78)}, product);
    add("linear", "large", {x_, normal({321, kCols}, 79), normal({321}, 80)},
        [](Inputs in) { return linear(in[0], in[1], in[2]); });
  }

  void rows() {
    add("softmax", "large", {x_}, [](Inputs in) { return softmax(in[0]); });
    add("log_softmax", "large", {x_}, [](Inputs in) { return log_softmax(in[0]); });
    const Tensor gamma = normal({kCols}, 81, 1, 0.3), beta = normal({kCols}, 82);
    add("layer_norm", "large", {x_, gamma, beta}, [](Inputs in) { return layer_norm(in[0], in[1], in[2], 1e-12); });
    add("bias_dropout_residual_layer_norm", "large", {x_, beta, normal({kRows, kCols}, 83), gamma, beta},
        [](Inputs in) { return bias_dropout_residual_layer_norm(in[0], in[1], in[2], in[3], in[4], 1e-12, 0.1, 7); });
    add("bias_gelu", "large", {x_, beta}, [](Inputs in) { return bias_gelu(in[0], in[1]); });
    add("bias_gelu", "large, no bias", {x_}, [](Inputs in) { return gelu(in[0]); });
    add("dropout", "large", {x_}, [](Inputs in) { return dropout(in[0], 0.3, 9); });
    for (const Reduction reduction : {Reduction::none, Reduction::mean})
      add("cross_entropy", "large", {x_, scattered(kRows, kCols, {kRows})}, [=](Inputs in) {
        return cross_entropy(in[0], in[1], {.reduction = reduction, .label_smoothing = 0.1});
      });
  }

  void model() {
    const Tensor ids = scattered(600, 97, {600}), gamma = normal({96}, 84, 1, 0.3), beta = normal({96}, 85);
    add("embedding", "large", {normal({97, 96}, 86), ids}, [](Inputs in) { return embedding(in[0], in[1]); });
    add("embedding_layer_norm", "large",
        {normal({97, 96}, 87), normal({2, 96}, 88), normal({60, 96}, 89), gamma, beta, ids, scattered(600, 2, {600}),
         scattered(600, 60, {600})},
        [](Inputs in) {
          return embedding_layer_norm({in[0], in[1], in[2]}, in[5], in[6], in[7], in[3], in[4], 1e-12, 0.1, 3);
        });
    const std::shared_ptr<const Packing> packing = Packing::packed({70, 1, 33, 130, 7});
    add("attention", "large", {normal({241, 64}, 90), normal({241, 64}, 91), normal({241, 64}, 92)},
        [=](Inputs in) { return attention(in[0], in[1], in[2], packing, 4, 0.1, 4); });
  }

  Tensor x_ = normal({kRows, kCols}, 69);
  std::vector<Sample> samples_;
};

const std::vector<Sample>& large_samples() {
  static const LargeSamples& samples = *new LargeSamples();
  return samples.all();
}

TEST(Threads, EveryOpIsCalledLarge) {
  for (const OpRow* row : all_ops()) {
    if (std::string(row->name) == "to_device") continue;   // moves bytes, on no thread of the pool
    const auto of_row = [&](const Sample& sample) { return sample.op == row->name; };
    EXPECT_TRUE(std::any_of(large_samples().begin(), large_samples().end(), of_row)) << row->name;
  }
}

TEST(Threads, LargeCallsGiveTheSameBitsForEveryNumberInPoisonedMemoryToo) {
  Runtime& runtime = Runtime::instance();
  const int before = runtime.num_threads();
  for (const Sample& sample : large_samples())
    for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
      runtime.set_num_threads(1);
      const SampleRun one = run_sample(sample, leaves_of(sample, dtype, true));
      runtime.allocator(Device::cpu()).set_poison(true);
      for (const int threads : {2, 4}) {
        runtime.set_num_threads(threads);
        expect_same_bits(run_sample(sample, leaves_of(sample, dtype, true)), one,
                         sample.name() + " with " + std::to_string(threads) + " threads");
      }
      runtime.allocator(Device::cpu()).set_poison(false);
    }
  runtime.set_num_threads(before);
}

TEST(Threads, LargeCallsInF32AreNearF64) {
  for (const Sample& sample : large_samples()) {
    const Tensors narrow = leaves_of(sample, Dtype::f32, true);
    Tensors wide;
    for (const Tensor& leaf : narrow) wide.push_back(leaf.dtype() == Dtype::f32 ? leaf.detach().to(Dtype::f64) : leaf);
    if (sample.op == "cast") continue;  // the output is bf16 either way
    // One after the other, at most kRows numbers are added up (longer sums are trees of such), forward and backward;
    // each addition rounds by half a unit of what is there by then.
    expect_close(run_sample(sample, narrow), run_sample(sample, as_leaves(wide)), 2 * kRows * 0x1p-24, sample.name());
  }
}

}  // namespace
}  // namespace sinter::testing
