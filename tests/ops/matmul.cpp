#include "core/ops/matmul.h"

#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;

Shape leading(const Shape& shape) { return Shape(std::span(shape.begin(), static_cast<std::size_t>(shape.rank() - 2)));
  }

/// Element of the last two dimensions at (r, c), the leading ones broadcast to `batch`.
double element(const HostArray& x, Shape batch, std::int64_t r, std::int64_t c) {
  batch.push_back(r);
  batch.push_back(c);
  Shape own = x.shape;
  const int shift = batch.rank() - own.rank();
  for (int d = 0; d < own.rank(); ++d) own[d] = d < own.rank() - 2 && own[d] == 1 ? 0 : batch[d + shift];
  return x.at(own);
}

Arrays product(const Arrays& in) {
  const HostArray &a = in[0], &b = in[1];
  Shape shape = common_shape(leading(a.shape), leading(b.shape));
  shape.push_back(a.size(-2));
  shape.push_back(b.size(-1));
  return {make_array(shape, [&](const Shape& i) {
    double total = 0;
    for (std::int64_t k = 0; k < a.size(-1); ++k)
      total += element(a, leading(i), i[i.rank() - 2], k) * element(b, leading(i), k, i[i.rank() - 1]);
    return total;
  })};
}

Arrays affine(const Arrays& in) {
  Shape shape = in[0].shape;
  shape[shape.rank() - 1] = in[1].size(0);
  return {make_array(shape, [&](const Shape& i) {
    const std::int64_t n = i[i.rank() - 1];
    double total = in.size() > 2 ? in[2].at({n}) : 0;
    Shape place = i;
    for (std::int64_t k = 0; k < in[1].size(1); ++k) {
      place[place.rank() - 1] = k;
      total += in[0].at(place) * in[1].at({n, k});
    }
    return total;
  })};
}

void vector_samples(Samples& samples) {
  const TensorCall call = [](Inputs in) { return Tensors{matmul(in[0], in[1])}; };
  const auto as_matrices = [](Shape a, Shape b, Shape result) {
    return [=](const Arrays& in) {
      Arrays matrices = in;
      matrices[0].shape = a;
      matrices[1].shape = b;
      Arrays out = product(matrices);
      out[0].shape = result;
      return out;
    };
  };
  samples.valid.push_back({.op = "matmul", .label = "vector and vector", .inputs = {normal({5}, 20), normal({5}, 21)},
                           .call = call,
                           .expected = as_matrices({1, 5}, {5, 1}, {}), .terms = 5, .layout_keeps_bits = false});
  samples.valid.push_back({.op = "matmul", .label = "matrix and vector",
                           .inputs = {normal({2, 3, 5}, 22), normal({5}, 23)}, .call = call,
                           .expected = as_matrices({2, 3, 5}, {5, 1}, {2, 3}), .terms = 6, .layout_keeps_bits = false});
  samples.valid.push_back({.op = "matmul", .label = "vector and matrix",
                           .inputs = {normal({5}, 24), normal({5, 4}, 25)}, .call = call,
                           .expected = as_matrices({1, 5}, {5, 4}, {4}), .terms = 5, .layout_keeps_bits = false});
}

}  // namespace

void matmul_samples(Samples& samples) {
  const TensorCall call = [](Inputs in) { return Tensors{matmul(in[0], in[1])}; };
  struct Case {
    const char* label;
    Shape a, b;
  };
  const Case cases[] = {{"matrices", {3, 5}, {5, 4}},
                        {"a batch times one matrix", {2, 3, 7}, {7, 2}},
                        {"batches", {2, 3, 4}, {2, 4, 5}},
                        {"broadcast batches", {2, 1, 3, 4}, {3, 4, 2}},
                        {"one matrix times a batch", {3, 4}, {2, 4, 2}},
                        {"one row, one column", {1, 6}, {6, 1}},
                        {"more than a register tile", {17, 33}, {33, 19}},
                        {"no rows", {0, 3}, {3, 2}},
                        {"no inner dimension", {2, 0}, {0, 3}},
                        {"a batch without an inner dimension", {2, 3, 0}, {0, 4}},
                        {"a batch times no columns", {2, 3, 4}, {4, 0}}};
  std::uint32_t site = 1;
  for (const Case& c : cases) {
    samples.valid.push_back({.op = "matmul", .label = c.label, .inputs = {normal(c.a, site), normal(c.b, site + 1)},
                             .call = call,
                             .expected = product, .terms = 40, .layout_keeps_bits = false});
    site += 2;
  }
  vector_samples(samples);
  const TensorCall with_bias = [](Inputs in) { return Tensors{linear(in[0], in[1], in[2])}; };
  const TensorCall without = [](Inputs in) { return Tensors{linear(in[0], in[1])}; };
  const auto add_linear = [&](const char* label, const Tensors& inputs) {
    samples.valid.push_back({.op = "linear", .label = label, .inputs = inputs,
                             .call = inputs.size() == 3 ? with_bias : without,
                             .expected = affine, .terms = 33});
  };
  add_linear("bias", {normal({4, 5}, 40), normal({3, 5}, 41), normal({3}, 42)});
  add_linear("no bias, rank 3", {normal({2, 3, 7}, 43), normal({2, 7}, 44)});
  add_linear("bias, a row", {normal({33}, 45), normal({5, 33}, 46), normal({5}, 47)});
  add_linear("no rows", {normal({0, 5}, 48), normal({3, 5}, 49), normal({3}, 50)});
  add_linear("as many rows as outputs", {normal({3, 5}, 54), normal({3, 5}, 55), normal({3}, 56)});
  add_linear("no inputs", {normal({2, 0}, 51), normal({3, 0}, 52), normal({3}, 53)});
  const Tensor x = normal({2, 3}, 1);
  samples.errors.push_back({"matmul: inner sizes", [=] { matmul(x, x); },
                            "matmul: shapes [2, 3] and [2, 3]: 3 columns meet 2 rows"});
  samples.errors.push_back({"matmul: rank 0", [=] { matmul(x, normal({}, 2)); }, "rank 0"});
  samples.errors.push_back({"matmul: batches", [] { matmul(normal({2, 3, 4}, 1), normal({3, 4, 5}, 2)); },
                            "matmul: shapes [2, 3, 4] and [3, 4, 5]: the dimensions before the last two"});
  samples.errors.push_back({"linear: weight", [=] { linear(x, normal({4, 2}, 3)); },
                            "linear: input [2, 3] does not fit weight [4, 2]"});
  samples.errors.push_back({"linear: bias", [=] { linear(x, normal({4, 3}, 3), x); },
                            "linear: bias is [2, 3], it must be [4]"});
  samples.errors.push_back({"linear: dtype", [=] { linear(x, normal({4, 3}, 3).to(Dtype::f32)); },
                            "linear: dtypes f64 and f32 differ"});
  samples.errors.push_back({"matmul: f16", [=] { matmul(x.to(Dtype::f16), x.to(Dtype::f16).transpose(0, 1)); },
                            "f32 and f64 only"});
}

}  // namespace sinter::testing
