// What holds for every op: samples, values, launch branches, dtypes, errors, cost.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <set>

#include "core/autograd/node.h"
#include "core/error.h"
#include "core/ops/registry.h"
#include "core/runtime/runtime.h"
#include "tests/ops/run_sample.h"

namespace sinter::testing {
namespace {

std::vector<HostArray> host_arrays(Inputs tensors) {
  std::vector<HostArray> arrays;
  for (const Tensor& tensor : tensors) arrays.push_back(HostArray::of(tensor));
  return arrays;
}

TEST(EveryOp, HasSamplesAndEverySampleAnOp) {
  std::set<std::string> sampled;
  for (const Sample& sample : all_samples().valid) {
    EXPECT_STREQ(find_op(sample.op.c_str()).name, sample.op.c_str());
    EXPECT_FALSE(sample.expected == nullptr) << sample.name();
    sampled.insert(sample.op);
  }
  const std::string why_no_moves = Runtime::instance().why_unusable(Device::simt());
  for (const OpRow* row : all_ops()) {
    if (std::string(row->name) == "to_device" && !why_no_moves.empty()) {
      std::cout << "to_device has no samples without the emulated device: " << why_no_moves << "\n";
      continue;
    }
    EXPECT_TRUE(sampled.contains(row->name)) << row->name << " has no sample in tests/ops";
  }
}

TEST(EveryOp, EveryLaunchBranchIsEntered) {
  for (const OpRow* row : all_ops()) row->entered->store(0);
  for (const Sample& sample : all_samples().valid) {
    run_sample(sample, leaves_of(sample, Dtype::f64, true));
    const Tensors pinned = leaves_of(sample, Dtype::f64, true);
    adopt(pinned);
    run_sample(sample, pinned);
    if (find_op(sample.op.c_str()).flags.second_order && differentiable(sample))
      run_recorded(sample, leaves_of(sample, Dtype::f64, true));
  }
  for (const OpRow* row : all_ops())
    for (std::size_t i = 0; i < row->branches.size(); ++i)
      EXPECT_TRUE((row->entered->load() >> i & 1u) != 0) << row->name << ": no sample enters \"" << row->branches[i]
          << "\"";
}

TEST(EveryOp, MatchesItsReferenceOnEveryInstructionSet) {
  for (const kernels::CpuIsa isa : {kernels::CpuIsa::avx2, kernels::CpuIsa::avx512}) {
    if (!kernels::cpu_has(isa)) continue;
    Runtime::instance().set_cpu_isa(isa);
    for (const Sample& sample : all_samples().valid)
      for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
        const Tensors inputs = leaves_of(sample, dtype, false);
        const std::vector<HostArray> expected = sample.expected(host_arrays(inputs));
        const std::vector<HostArray> actual = host_arrays(sample.call(inputs));
        ASSERT_EQ(actual.size(), expected.size()) << sample.name();
        for (std::size_t i = 0; i < actual.size(); ++i)
          expect_close(actual[i], expected[i], tolerance(sample, dtype), sample.name() + " " + name(dtype));
      }
  }
}

TEST(EveryOp, ServesTheOtherDtypesExactly) {
  for (const Sample& sample : all_samples().valid)
    for (const Dtype dtype : sample.more_dtypes) {
      const Tensors inputs = leaves_of(sample, dtype, false);
      const std::vector<HostArray> expected = sample.expected(host_arrays(inputs));
      const std::vector<HostArray> actual = host_arrays(sample.call(inputs));
      for (std::size_t i = 0; i < actual.size(); ++i)
        expect_close(actual[i], expected[i], 0, sample.name() + " " + name(dtype));
    }
}

TEST(EveryOp, SaysWhatIsWrong) {
  for (const ErrorSample& sample : all_samples().errors) {
    try {
      sample.call();
      ADD_FAILURE() << sample.label << ": no error";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(sample.says), std::string::npos)
          << sample.label << ": \"" << error.what() << "\" does not contain \"" << sample.says << "\"";
      EXPECT_TRUE(error.code() == ErrorCode::usage || error.code() == ErrorCode::unsupported) << sample.label;
    }
  }
}

TEST(EveryOp, RecordsANodeOfItsNameAndKnowsItsCost) {
  std::set<std::string> seen;
  for (const Sample& sample : all_samples().valid) {
    const bool first = seen.insert(sample.op).second;
    const OpRow& op = find_op(sample.op.c_str());
    if (op.backward == nullptr) continue;
    const Tensors leaves = leaves_of(sample, Dtype::f64, true);
    const Tensors outputs = sample.call(leaves);
    if (!outputs[0].requires_grad()) continue;
    const std::shared_ptr<autograd::Node> node = node_of(outputs[0], sample.op);
    ASSERT_NE(node, nullptr) << sample.name() << " records no node of its op";
    if (!first) continue;
    const kernels::Cost cost = op.cost(node->attrs.get(), leaves);
    EXPECT_TRUE(std::isfinite(cost.bytes()) && cost.bytes() > 0) << sample.op;
    EXPECT_TRUE(std::isfinite(cost.flops) && cost.flops >= 0) << sample.op;
  }
}

TEST(EveryOp, AddsIntoFlatGradients) {
  for (const Sample& sample : all_samples().valid) {
    const Tensors plain = leaves_of(sample, Dtype::f64, true), pinned = leaves_of(sample, Dtype::f64, true);
    const SampleRun once = run_sample(sample, plain);
    adopt(pinned);
    const SampleRun into = run_sample(sample, pinned);
    for (std::size_t i = 0; i < pinned.size(); ++i) {
      if (!once.gradients[i].defined()) continue;
      // The buffer held NaN: nothing of its old content may be left.
      expect_close(HostArray::of(into.gradients[i]), HostArray::of(once.gradients[i]), 0,
                   sample.name() + " into a flat gradient");
      EXPECT_EQ(into.gradients[i].data(), pinned[i].meta()->grad.data()) << sample.name();
    }
    run_sample(sample, pinned);
    const SampleRun twice = run_sample(sample, plain);
    for (std::size_t i = 0; i < pinned.size(); ++i)
      if (twice.gradients[i].defined())
        expect_close(HostArray::of(pinned[i].grad()), HostArray::of(twice.gradients[i]), tolerance(sample, Dtype::f64),
                     sample.name() + " a second time into a flat gradient");
  }
}

}  // namespace
}  // namespace sinter::testing
