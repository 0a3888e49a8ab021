#include "core/ops/layer_norm.h"

#include <cmath>

#include "tests/ops/dropout_factors.h"
#include "tests/ops/layer_norm_reference.h"
#include "tests/ops/sample.h"

namespace sinter::testing {

HostArray normalised_rows(const HostArray& z, const HostArray& gamma, const HostArray& beta, double eps) {
  HostArray out = z;
  const auto cols = static_cast<std::size_t>(z.size(-1));
  for (std::size_t row = 0; row * cols < z.values.size(); ++row) {
    const double* x = z.values.data() + row * cols;
    double mean = 0, variance = 0;
    for (std::size_t c = 0; c < cols; ++c) mean += x[c] / static_cast<double>(cols);
    for (std::size_t c = 0; c < cols; ++c) variance += (x[c] - mean) * (x[c] - mean) / static_cast<double>(cols);
    for (std::size_t c = 0; c < cols; ++c)
      out.values[row * cols + c] = (x[c] - mean) / std::sqrt(variance + eps) * gamma.values[c] + beta.values[c];
  }
  return out;
}

namespace {

using Arrays = std::vector<HostArray>;

void add_fused(Samples& samples, const char* label, const Shape& shape, double p,
               std::shared_ptr<const Packing> packing) {
  const Shape vector{shape.at(-1)};
  samples.valid.push_back(
      {.op = "bias_dropout_residual_layer_norm", .label = label,
       .inputs = {normal(shape, 1), normal(vector, 2), normal(shape, 3), normal(vector, 4, 1, 0.3), normal(vector, 5)},
       .call = [=](Inputs in) {
         const SampleScope scope(kSeed, kStep, kFirstSample);
         return Tensors{bias_dropout_residual_layer_norm(in[0], in[1], in[2], in[3], in[4], 1e-12, p, 7, packing)};
       },
       .expected = [=](const Arrays& in) {
         HostArray z = in[0];
         const std::int64_t cols = z.size(-1);
         for (std::size_t i = 0; i < z.values.size(); ++i) {
           const std::int64_t row = static_cast<std::int64_t>(i) / cols, col = static_cast<std::int64_t>(i) % cols;
           const double factor = p > 0 ? row_dropout_factor(p, 7, packing.get(), row, col, cols) : 1;
           z.values[i] = (in[0].values[i] + in[1].at({col})) * factor + in[2].values[i];
         }
         return Arrays{normalised_rows(z, in[3], in[4], 1e-12)};
       },
       .terms = 40});
}

}  // namespace

void layer_norm_samples(Samples& samples) {
  const auto add = [&](const char* label, const Shape& shape, double eps) {
    const Shape vector{shape.at(-1)};
    samples.valid.push_back({.op = "layer_norm", .label = label,
                             .inputs = {normal(shape, 10), normal(vector, 11, 1, 0.3), normal(vector, 12)},
                             .call = [=](Inputs in) { return Tensors{layer_norm(in[0], in[1], in[2], eps)}; },
                             .expected = [=](const Arrays& in) {
                               return Arrays{normalised_rows(in[0], in[1], in[2], eps)};
                             },
                             .terms = 40});
  };
  add("rows", {4, 7}, 1e-12);
  add("rank 3", {2, 3, 33}, 1e-5);
  add("vector", {9}, 1e-12);
  add("no rows", {0, 5}, 1e-12);
  // gamma and beta are constants here: the branch that writes the input's gradient alone.
  samples.valid.push_back({.op = "layer_norm", .label = "constant affine", .inputs = {normal({3, 6}, 13)},
                           .call = [](Inputs in) {
                             TensorOptions vector = in[0].options();
                             vector.dtype = kernels::computed_dtype(vector.dtype);
                             const Tensor gamma = Tensor::full({6}, 1.5, vector), beta = Tensor::zeros({6}, vector);
                             return Tensors{layer_norm(in[0], gamma, beta, 1e-12)};
                           },
                           .expected = [](const Arrays& in) {
                             const HostArray gamma = make_array({6}, [](const Shape&) { return 1.5; });
                             return Arrays{normalised_rows(in[0], gamma, HostArray(Shape{6}), 1e-12)};
                           },
                           .terms = 40});
  add_fused(samples, "no dropout", {4, 7}, 0, nullptr);
  add_fused(samples, "dropout", {3, 17}, 0.3, nullptr);
  add_fused(samples, "dropout, packed, rank 3", {1, 6, 9}, 0.5, Packing::packed({2, 4}));
  add_fused(samples, "no rows", {0, 9}, 0, nullptr);
  const Tensor x = normal({2, 3}, 1), v = normal({3}, 2);
  samples.errors.push_back({"layer_norm: gamma", [=] { layer_norm(x, normal({2}, 1), v, 1e-12); },
                            "layer_norm: gamma is [2], it must be [3]"});
  samples.errors.push_back({"layer_norm: dtype", [=] { layer_norm(x, v.to(Dtype::f32), v, 1e-12); },
                            "layer_norm: dtypes f64 and f32 differ"});
  samples.errors.push_back({"layer_norm: scalar", [=] { layer_norm(normal({}, 1), v, v, 1e-12); },
                            "layer_norm of a scalar"});
  samples.errors.push_back({"fused: residual", [=] { bias_dropout_residual_layer_norm(x, v, v, v, v, 1e-12, 0, 1); },
                            "bias_dropout_residual_layer_norm: residual is [3], it must be [2, 3]"});
  samples.errors.push_back({"fused: no step", [=] { bias_dropout_residual_layer_norm(x, v, x, v, v, 1e-12, 0.1, 1); },
                            "needs to know the step"});
}

}  // namespace sinter::testing
