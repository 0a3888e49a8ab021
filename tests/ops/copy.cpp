#include "core/runtime/runtime.h"
#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;
const std::vector<Dtype> kMoreDtypes = {Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32, Dtype::u8};

Arrays same_values(const Arrays& in) { return {in[0]}; }

/// To the emulated device and back, where this build has one.
void add_moves(Samples& samples) {
  if (!Runtime::instance().why_unusable(Device::simt()).empty()) return;
  const auto add = [&](const char* label, const Tensor& x, const TensorCall& call) {
    samples.valid.push_back({.op = "to_device", .label = label, .inputs = {x}, .call = call, .expected = same_values,
                             .more_dtypes = kMoreDtypes});
  };
  const auto there_and_back = [](Inputs in) { return Tensors{in[0].to(Device::simt()).to(Device::cpu())}; };
  add("there and back", uniform({3, 5}, 1, 9, 4), there_and_back);
  add("scalar", uniform({}, 1, 9, 5), there_and_back);
  add("empty", uniform({0, 4}, 1, 9, 6), there_and_back);
  add("over another device", uniform({7}, 1, 9, 7), [](Inputs in) {
    return Tensors{in[0].to(Device::simt(0)).to(Device::simt(1)).to(Device::cpu())};
  });
}

}  // namespace

void copy_samples(Samples& samples) {
  const auto add = [&](const char* op, const char* label, const Tensor& x,
                       const std::function<Tensor(const Tensor&)>& call,
                       const std::vector<Dtype>& more) {
    samples.valid.push_back({.op = op, .label = label, .inputs = {x},
                             .call = [call](Inputs in) { return Tensors{call(in[0])}; },
                             .expected = same_values, .more_dtypes = more});
  };
  const auto clone = [](const Tensor& x) { return x.clone(); };
  add("contiguous", "dense", uniform({3, 5}, 1, 9, 1), clone, kMoreDtypes);
  add("contiguous", "scalar", uniform({}, 1, 9, 2), clone, kMoreDtypes);
  add("contiguous", "empty", uniform({0, 4}, 1, 9, 3), clone, kMoreDtypes);
  // Values that f32, f16 and bf16 hold exactly, so that the way there and back changes nothing.
  const Tensor exact = Tensor::from<double>({-2, 0.5, 1, 3, 0, 96, -0.25});
  add("cast", "to f32 and back", exact,
      [](const Tensor& x) { return x.to(x.dtype() == Dtype::f32 ? Dtype::f64 : Dtype::f32).to(x.dtype()); }, {});
  add("cast", "through f16", exact, [](const Tensor& x) { return x.to(Dtype::f16).to(x.dtype()); }, {});
  add("cast", "through bf16", exact, [](const Tensor& x) { return x.to(Dtype::bf16).to(x.dtype()); }, {});
  // Finite differences see the rounding of the narrower dtype.
  for (Sample& sample : samples.valid)
    if (sample.op == "cast") sample.no_gradcheck = "the forward rounds";
  samples.valid.push_back({.op = "cast", .label = "to i64 truncates",
                           .inputs = {Tensor::from<double>({1.9, -1.9, 0, 7})},
                           .call = [](Inputs in) { return Tensors{in[0].to(Dtype::i64)}; },
                           .expected = [](const Arrays& in) {
                             HostArray out = in[0];
                             for (double& x : out.values) x = static_cast<double>(static_cast<std::int64_t>(x));
                             return Arrays{out};
                           }});
  add_moves(samples);
}

}  // namespace sinter::testing
