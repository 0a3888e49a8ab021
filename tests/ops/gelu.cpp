#include "core/ops/gelu.h"

#include <cmath>

#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;

double formula(double u) { return u * 0.5 * (1 + std::erf(u / std::sqrt(2.0))); }

void add(Samples& samples, const char* label, const Tensors& inputs) {
  const bool bias = inputs.size() == 2;
  samples.valid.push_back({.op = "bias_gelu", .label = label, .inputs = inputs,
                           .call = [bias](Inputs in) { return Tensors{bias ? bias_gelu(in[0], in[1]) : gelu(in[0])}; },
                           .expected = [bias](const Arrays& in) {
                             return Arrays{make_array(in[0].shape, [&](const Shape& i) {
                               return formula(in[0].at(i) + (bias ? in[1].broadcast_at(i) : 0));
                             })};
                           },
                           .terms = 8});
}

}  // namespace

void gelu_samples(Samples& samples) {
  add(samples, "bias", {normal({4, 7}, 1, 0, 2), normal({7}, 2)});
  add(samples, "bias, rank 3", {normal({2, 3, 33}, 3), normal({33}, 4)});
  add(samples, "no bias", {normal({3, 5}, 5, 0, 2)});
  add(samples, "scalar", {normal({}, 6)});
  add(samples, "no rows", {normal({0, 5}, 7), normal({5}, 8)});
  const Tensor x = normal({2, 3}, 1);
  samples.errors.push_back({"bias_gelu: bias", [=] { bias_gelu(x, normal({2}, 1)); },
                            "bias_gelu: bias is [2], it must be [3]"});
  samples.errors.push_back({"gelu: integers", [=] { gelu(x.to(Dtype::i64)); },
                            "bias_gelu: bias_gelu on the CPU takes f32 and f64"});
}

}  // namespace sinter::testing
