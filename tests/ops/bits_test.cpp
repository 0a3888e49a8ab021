// What must not change a bit: a second run, the number of threads, what memory held before, the layout of an input.
#include <gtest/gtest.h>

#include "core/ops/shape.h"
#include "core/runtime/runtime.h"
#include "tests/ops/run_sample.h"

namespace sinter::testing {
namespace {

SampleRun plain_run(const Sample& sample, Dtype dtype) { return run_sample(sample, leaves_of(sample, dtype, true)); }

TEST(Bits, ASecondRunIsEqual) {
  for (const Sample& sample : all_samples().valid)
    for (const Dtype dtype : {Dtype::f32, Dtype::f64})
      expect_same_bits(plain_run(sample, dtype), plain_run(sample, dtype), sample.name() + " run twice");
}

TEST(Bits, TheNumberOfThreadsChangesNothing) {
  Runtime& runtime = Runtime::instance();
  const int before = runtime.num_threads();
  std::vector<SampleRun> one;
  runtime.set_num_threads(1);
  for (const Sample& sample : all_samples().valid) one.push_back(plain_run(sample, Dtype::f32));
  for (const int threads : {2, 4}) {
    runtime.set_num_threads(threads);
    for (std::size_t i = 0; i < one.size(); ++i)
      expect_same_bits(plain_run(all_samples().valid[i], Dtype::f32), one[i],
                       all_samples().valid[i].name() + " with " + std::to_string(threads) + " threads");
  }
  runtime.set_num_threads(before);
}

TEST(Bits, WhatMemoryHeldBeforeChangesNothing) {
  CachingAllocator& allocator = Runtime::instance().allocator(Device::cpu());
  for (const Sample& sample : all_samples().valid)
    for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
      const SampleRun clean = plain_run(sample, dtype);
      allocator.set_poison(true);
      const SampleRun poisoned = plain_run(sample, dtype);
      allocator.set_poison(false);
      expect_same_bits(poisoned, clean, sample.name() + " in poisoned memory");
    }
}

TEST(Bits, InputsAndTheirNeighboursStayAsTheyAre) {
  for (const Sample& sample : all_samples().valid) {
    Tensors wide, views;
    for (const Tensor& input : sample.inputs) {  // every input is a slice between two guards
      const Tensor flat = input.reshape({input.numel()});
      const Tensor guard = Tensor::full({16}, 77, input.options());
      wide.push_back(cat({guard, flat, guard}));
      views.push_back(wide.back().narrow(0, 16, input.numel()).reshape(input.shape()));
    }
    Tensors before;
    for (const Tensor& tensor : wide) before.push_back(tensor.clone());
    run_sample(sample, as_leaves(views));
    for (std::size_t i = 0; i < wide.size(); ++i) EXPECT_TRUE(same_bits(wide[i], before[i])) << sample.name()
        << ", input " << i;
  }
}

// --- Layouts
// ----------------------------------------------------------------------------------------------------------

/// The values of x, read through strides of a transposed copy.
Tensor transposed(const Tensor& x) { return x.rank() < 2 ? x : x.transpose(0, -1).contiguous().transpose(0, -1); }

/// The values of x, as the middle of every row of a wider buffer.
Tensor sliced(const Tensor& x) {
  if (x.rank() == 0) return cat({x.reshape({1}), x.reshape({1})}).narrow(0, 1, 1).reshape({});
  return cat({x, x, x}, -1).narrow(-1, x.size(-1), x.size(-1));
}

/// x with its first slice repeated by a stride of 0.
Tensor expanded(const Tensor& x) {
  return x.rank() == 0 || x.size(0) == 0 ? x : x.narrow(0, 0, 1).expand(x.shape());
}

TEST(Bits, TheLayoutOfAnInputChangesNothing) {
  using Layout = Tensor (*)(const Tensor&);
  const std::pair<const char*,
      Layout> layouts[] = {{"transposed", transposed}, {"sliced", sliced}, {"expanded", expanded}};
  for (const auto& [label, layout] : layouts)
    for (const Sample& sample : all_samples().valid)
      for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
        Tensors views, copies;
        for (const Tensor& input : leaves_of(sample, dtype, false)) {
          views.push_back(layout(input));
          copies.push_back(views.back().clone());
        }
        const SampleRun strided = run_sample(sample, as_leaves(views)), dense = run_sample(sample, as_leaves(copies));
        const std::string what = sample.name() + ", inputs " + label + ", " + name(dtype);
        if (sample.layout_keeps_bits) {
          expect_same_bits(strided, dense, what);
        } else {
          expect_close(strided, dense, tolerance(sample, dtype), what);
        }
      }
}

}  // namespace
}  // namespace sinter::testing
