// Every op on the emulated device, and on a GPU where there is one, against the CPU.
#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <set>

#include "core/autograd/engine.h"
#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/ops/dropout.h"
#include "core/ops/elementwise.h"
#include "core/ops/registry.h"
#include "core/random.h"
#include "core/runtime/runtime.h"
#include "core/runtime/step_arena.h"
#include "tests/core/other_devices.h"
#include "tests/ops/run_sample.h"

namespace sinter::testing {
namespace {

class EveryOpOnADevice : public ::testing::TestWithParam<Device> {
 protected:
  void SetUp() override {
    if (const std::string why = why_not_on(device_); !why.empty()) GTEST_SKIP() << why;
  }

  /// `indices_move`: whether indices and labels go to the device too; ops take them from the CPU as well.
  Tensors leaves_on_device(const Sample& sample, Dtype dtype, bool indices_move) const {
    Tensors leaves;
    for (const Tensor& leaf : leaves_of(sample, dtype, false)) {
      const bool moves = indices_move || leaf.dtype() != Dtype::i64;
      leaves.push_back(moves ? leaf.to(device_) : leaf);
      if (kernels::is_floating(leaf.dtype())) leaves.back().set_requires_grad();
    }
    return leaves;
  }

  /// What `fn` answers; a failure that names the sample, and nothing, where it throws.
  template <class Fn>
  std::optional<SampleRun> run_or_fail(const Sample& sample, Fn&& fn) const {
    try {
      return fn();
    } catch (const Error& error) {
      ADD_FAILURE() << sample.name() << ": " << error.what();
      return std::nullopt;
    }
  }

  const Device device_ = GetParam();
};

#ifdef SINTER_RACE_CHECKER   // the emulated device alone has one
INSTANTIATE_TEST_SUITE_P(Devices, EveryOpOnADevice, ::testing::Values(Device::simt()), name_of);
#else
SINTER_ON_OTHER_DEVICES(EveryOpOnADevice);
#endif

TEST_P(EveryOpOnADevice, HasItsKernels) {
  const kernels::BackendModule& backend = Runtime::instance().backend(device_);
  for (int id = 0; id < kernels::kKernelCount; ++id)
    EXPECT_NE(kernels::find(backend, static_cast<kernels::KernelId>(id)), nullptr)
        << device_.str() << " has no kernel " << kernels::name(static_cast<kernels::KernelId>(id));
}

TEST_P(EveryOpOnADevice, ComputesWhatTheCpuComputes) {
  for (const Sample& sample : all_samples().valid)
    for (const Dtype dtype : {Dtype::f32, Dtype::f64})
      for (const bool indices_move : {true, false}) {
        const auto run = [&] { return run_sample(sample, leaves_on_device(sample, dtype, indices_move)); };
        const std::optional<SampleRun> once = run_or_fail(sample, run);
        if (!once) continue;
        const std::string what = sample.name() + " " + name(dtype) + " on " + device_.str();
        // Both sides may be off by the tolerance.
        expect_close(*once, run_sample(sample, leaves_of(sample, dtype, true)), 2 * tolerance(sample, dtype), what);
        expect_same_bits(*once, run(), what + " twice");
      }
}

TEST_P(EveryOpOnADevice, AddsIntoFlatGradients) {
  for (const Sample& sample : all_samples().valid) {
    const Tensors pinned = leaves_on_device(sample, Dtype::f32, true);
    const auto into_flat = [&] {
      adopt(pinned);
      return run_sample(sample, pinned);
    };
    const std::optional<SampleRun> into = run_or_fail(sample, into_flat);
    if (!into) continue;
    expect_same_bits(*into, run_sample(sample, leaves_on_device(sample, Dtype::f32, true)),
                     sample.name() + " into a flat gradient");
  }
}

/// Forward and backward from tensors that stay into tensors that stay, as a captured step computes.
class CapturedSample {
 public:
  CapturedSample(const Sample& sample, Tensors inputs) : sample_(sample), inputs_(std::move(inputs)) {
    results_ = copy_of(run_sample(sample_, as_leaves(inputs_)));
    cotangents_ = cotangents_of(sample_.call(as_leaves(inputs_)));
  }

  void run() {
    const Tensors leaves = as_leaves(inputs_), outputs = sample_.call(leaves);
    Tensors roots;
    for (const Tensor& output : outputs)
      if (output.requires_grad()) roots.push_back(output);
    if (!roots.empty()) autograd::backward(roots, cotangents_);
    const NoGradGuard no_grad;
    for (std::size_t i = 0; i < outputs.size(); ++i) results_.outputs[i].copy_(outputs[i]);
    for (std::size_t i = 0; i < leaves.size(); ++i)
      if (results_.gradients[i].defined()) results_.gradients[i].copy_(leaves[i].grad());
  }
  /// What the last run left, whose place is then filled with other values.
  SampleRun take() {
    SampleRun taken = copy_of(results_);
    for (Tensors* const all : {&results_.outputs, &results_.gradients})
      for (Tensor& result : *all)
        if (result.defined()) result.fill_(3);
    return taken;
  }

 private:
  static SampleRun copy_of(SampleRun run) {
    for (Tensors* const all : {&run.outputs, &run.gradients})
      for (Tensor& each : *all)
        if (each.defined()) each = each.clone();
    return run;
  }

  const Sample& sample_;
  Tensors inputs_, cotangents_;
  SampleRun results_;
};

TEST_P(EveryOpOnADevice, IsCapturedWhereItsFlagSaysSo) {
  StepArena arena(device_);
  const auto counters =
      std::make_shared<const StepCounters>(Tensor::from(std::vector<std::int32_t>{17, 3}, {2}).to(device_));
  for (const Sample& sample : all_samples().valid) {
    const StepScope scope(/*seed=*/5, counters);
    CapturedSample captured(sample, leaves_on_device(sample, Dtype::f32, true));
    const auto step = [&] { captured.run(); };
    std::string refused;
    try {
      const StepPlan plan = arena.observe(step);
      const SampleRun eager = captured.take();
      const StepGraph graph = arena.capture(plan, step);
      arena.poison();
      graph.launch();
      expect_same_bits(captured.take(), eager, sample.name() + ", replayed");
    } catch (const Error& error) {
      refused = error.what();
    }
    const bool capturable = find_op(sample.op.c_str()).flags.capturable || sample.inputs[0].numel() == 0;
    EXPECT_EQ(refused.empty(), capturable) << sample.name() << ": " << refused;
  }
}

TEST_P(EveryOpOnADevice, RecordsItsBackward) {
  for (const Sample& sample : all_samples().valid) {
    if (!find_op(sample.op.c_str()).flags.second_order || !differentiable(sample)) continue;
    const std::optional<SampleRun> recorded =
        run_or_fail(sample, [&] { return run_recorded(sample, leaves_on_device(sample, Dtype::f64, true)); });
    if (recorded)
      expect_close(*recorded, run_recorded(sample, leaves_of(sample, Dtype::f64, true)),
                   2 * tolerance(sample, Dtype::f64), sample.name() + ", recorded, on " + device_.str());
  }
}

TEST_P(EveryOpOnADevice, ServesTheOtherDtypesExactly) {
  for (const Sample& sample : all_samples().valid)
    for (const Dtype dtype : sample.more_dtypes) {
      const auto run = [&] {
        Tensors inputs;
        for (const Tensor& leaf : leaves_of(sample, dtype, false)) inputs.push_back(leaf.to(device_));
        return SampleRun{sample.call(inputs), {}};
      };
      const std::optional<SampleRun> once = run_or_fail(sample, run);
      if (once)
        expect_same_bits(*once, {sample.call(leaves_of(sample, dtype, false)), {}},
                         sample.name() + " " + name(dtype) + " on " + device_.str());
    }
}

/// Which inputs of an op stand beside rows or columns of the others: f32 where those are f16 or bf16.
const std::map<std::string, std::set<std::size_t>>& vectors() {
  static const std::map<std::string, std::set<std::size_t>> inputs = {
      {"linear", {2}}, {"layer_norm", {1, 2}}, {"bias_dropout_residual_layer_norm", {1, 3, 4}},
      {"bias_gelu", {1}}, {"embedding_layer_norm", {3, 4}}};
  return inputs;
}

// Against the CPU in f32 on the same values. Sums are in f32; what was rounded to 16 bits before (a result, a
// cotangent, a probability on tensor cores) is off by half a unit each, and so is what was computed from it.
TEST_P(EveryOpOnADevice, ComputesIn16Bits) {
  for (const Sample& sample : all_samples().valid)
    for (const Dtype dtype : {Dtype::f16, Dtype::bf16}) {
      if (sample.op == "cast" || sample.op == "to_device") continue;   // exact, above; their samples name dtypes
      const auto found = vectors().find(sample.op);
      Tensors here, there;
      for (const Tensor& leaf : leaves_of(sample, Dtype::f64, false)) {
        const bool vector = found != vectors().end() && found->second.contains(here.size());
        const bool floating = leaf.dtype() == Dtype::f64;
        const Tensor rounded = floating ? leaf.to(vector ? Dtype::f32 : dtype) : leaf;
        here.push_back(floating ? rounded.to(Dtype::f32).clone() : leaf);
        there.push_back(rounded.to(device_));
        if (floating) here.back().set_requires_grad(), there.back().set_requires_grad();
      }
      const std::optional<SampleRun> run = run_or_fail(sample, [&] { return run_sample(sample, there); });
      const double unit = dtype == Dtype::f16 ? 0x1p-11 : 0x1p-8;
      if (run)
        expect_close(*run, run_sample(sample, here), unit * (sample.terms + 8),
                     sample.name() + " " + name(dtype) + " on " + device_.str());
    }
}

// Strided inputs, of which some ops read in place and others make dense copies.
TEST_P(EveryOpOnADevice, ReadsStridedInputs) {
  for (const Sample& sample : all_samples().valid) {
    const auto run = [&] {
      Tensors leaves = leaves_on_device(sample, Dtype::f32, true);
      for (Tensor& leaf : leaves) {
        if (leaf.rank() == 0) continue;
        const NoGradGuard guard;
        const bool trained = leaf.requires_grad();
        Shape wide = leaf.shape();
        wide[wide.rank() - 1] += 3;
        const Tensor sliced = Tensor::zeros(wide, leaf.options()).narrow(-1, 1, leaf.size(-1));
        Tensor(sliced).copy_(leaf);
        leaf = sliced.detach();
        if (trained) leaf.set_requires_grad();
      }
      return run_sample(sample, leaves);
    };
    const std::optional<SampleRun> strided = run_or_fail(sample, run);
    if (strided)
      expect_close(*strided, run_sample(sample, leaves_of(sample, Dtype::f32, true)),
                   2 * tolerance(sample, Dtype::f32), sample.name() + ", strided, on " + device_.str());
  }
}

TEST_P(EveryOpOnADevice, DropsTheSameElements) {
  const StepScope step(5, 17, 3);
  for (const auto& packing : {std::shared_ptr<const Packing>(), Packing::packed({3, 1, 0, 5})}) {
    const DropoutCall call = DropoutCall::make(0.3, 11, "test");
    const Tensor ones = Tensor::ones({9, 40});
    EXPECT_TRUE(same_bits(dropout_mask(ones.to(device_), call, packing), dropout_mask(ones, call, packing)));
  }
}

TEST_P(EveryOpOnADevice, RefusesOperandsOfTwoDevices) {
  const Tensor x = Tensor::ones({2});
  try {
    add(x.to(device_), x);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), "add: devices " + device_.str() + " and cpu differ; move with to(device)");
  }
}

}  // namespace
}  // namespace sinter::testing
