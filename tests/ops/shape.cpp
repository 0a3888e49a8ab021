#include "core/ops/shape.h"

#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;
const std::vector<Dtype> kMoreDtypes = {Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32, Dtype::u8};

/// A sample whose output element at an index is the input's element at source(index).
void add_view(Samples& samples, const char* op, const char* label, const Tensor& x, const Shape& out_shape,
              std::function<Tensor(const Tensor&)> call, std::function<Shape(const Shape&)> source, double terms = 1) {
  samples.valid.push_back({.op = op, .label = label, .inputs = {x},
                           .call = [call = std::move(call)](Inputs in) { return Tensors{call(in[0])}; },
                           .expected = [out_shape, source = std::move(source)](const Arrays& in) {
                             return Arrays{make_array(out_shape,
                                                      [&](const Shape& index) { return in[0].at(source(index)); })};
                           },
                           .terms = terms, .more_dtypes = kMoreDtypes});
}

void reshape_samples(Samples& samples) {
  const auto add = [&](const char* label, const Tensor& x, const Shape& to) {
    samples.valid.push_back({.op = "reshape", .label = label, .inputs = {x},
                             .call = [to](Inputs in) { return Tensors{in[0].reshape(to)}; },
                             .expected = [](const Arrays& in) { return Arrays{in[0]}; }, .more_dtypes = kMoreDtypes});
    // The values stay in order; only the shape of the expectation changes.
    samples.valid.back().expected = [shape = x.reshape(to).shape()](const Arrays& in) {
      HostArray out(shape);
      out.values = in[0].values;
      return Arrays{out};
    };
  };
  add("to a vector", uniform({3, 4}, 1, 9, 1), {12});
  add("inferred size", uniform({2, 6}, 1, 9, 2), {-1, 3});
  add("sizes of 1", uniform({2, 3}, 1, 9, 3), {1, 2, 1, 3, 1});
  add("scalar to vector", uniform({}, 1, 9, 4), {1});
  add("empty", uniform({0, 3}, 1, 9, 5), {3, 0});
  // Transposed inside, so that no strides show the result: the copying branch.
  samples.valid.push_back({.op = "reshape", .label = "of a transposed view", .inputs = {uniform({3, 4}, 1, 9, 6)},
                           .call = [](Inputs in) { return Tensors{in[0].transpose(0, 1).reshape({12})}; },
                           .expected = [](const Arrays& in) {
                             return Arrays{make_array({12},
                                                      [&](const Shape& i) { return in[0].at({i[0] % 3, i[0] / 3}); })};
                           },
                           .more_dtypes = kMoreDtypes});
}

void cat_samples(Samples& samples) {
  samples.valid.push_back({.op = "cat", .label = "rows",
                           .inputs = {uniform({2, 3}, 1, 9, 10), uniform({1, 3}, 1, 9, 11), uniform({0, 3}, 1, 9, 12)},
                           .call = [](Inputs in) { return Tensors{cat({in[0], in[1], in[2]})}; },
                           .expected = [](const Arrays& in) {
                             return Arrays{make_array({3, 3}, [&](const Shape& i) {
                               return i[0] < 2 ? in[0].at(i) : in[1].at({i[0] - 2, i[1]});
                             })};
                           },
                           .more_dtypes = kMoreDtypes});
  samples.valid.push_back({.op = "cat", .label = "last dimension",
                           .inputs = {uniform({2, 2}, 1, 9, 13), uniform({2, 5}, 1, 9, 14)},
                           .call = [](Inputs in) { return Tensors{cat({in[0], in[1]}, -1)}; },
                           .expected = [](const Arrays& in) {
                             return Arrays{make_array({2, 7}, [&](const Shape& i) {
                               return i[1] < 2 ? in[0].at(i) : in[1].at({i[0], i[1] - 2});
                             })};
                           },
                           .more_dtypes = kMoreDtypes});
  samples.valid.push_back({.op = "cat", .label = "stack", .inputs = {uniform({3}, 1, 9, 15), uniform({3}, 1, 9, 16)},
                           .call = [](Inputs in) { return Tensors{stack({in[0], in[1]}, 1)}; },
                           .expected = [](const Arrays& in) {
                             return Arrays{make_array({3, 2}, [&](const Shape& i) {
                               return in[static_cast<std::size_t>(i[1])].at({i[0]});
                             })};
                           },
                           .more_dtypes = kMoreDtypes});
}

}  // namespace

void shape_samples(Samples& samples) {
  reshape_samples(samples);
  cat_samples(samples);
  add_view(samples, "expand", "rows", uniform({1, 3}, 1, 9, 20), {4, 3},
           [](const Tensor& x) { return x.expand({4, 3}); },
           [](const Shape& i) { return Shape{0, i[1]}; }, 4);
  add_view(samples, "expand", "new dimension, kept size", uniform({3, 1}, 1, 9, 21), {2, 3, 5},
           [](const Tensor& x) { return x.expand({2, -1, 5}); }, [](const Shape& i) { return Shape{i[1], 0}; }, 10);
  add_view(samples, "expand", "scalar", uniform({}, 1, 9, 22), {2, 2}, [](const Tensor& x) { return x.expand({2, 2}); },
           [](const Shape&) { return Shape{}; }, 4);
  add_view(samples, "permute", "a cycle", uniform({2, 3, 4}, 1, 9, 23), {4, 2, 3},
           [](const Tensor& x) { return x.permute({2, 0, 1}); },
               [](const Shape& i) { return Shape{i[1], i[2], i[0]}; });
  add_view(samples, "permute", "transpose", uniform({2, 5}, 1, 9, 24), {5, 2},
           [](const Tensor& x) { return x.transpose(-1, 0); },
           [](const Shape& i) { return Shape{i[1], i[0]}; });
  add_view(samples, "narrow", "middle", uniform({3, 6}, 1, 9, 25), {3, 2},
           [](const Tensor& x) { return x.narrow(1, 3, 2); },
           [](const Shape& i) { return Shape{i[0], i[1] + 3}; });
  add_view(samples, "narrow", "nothing", uniform({3, 6}, 1, 9, 26), {0, 6},
           [](const Tensor& x) { return x.narrow(0, 3, 0); },
           [](const Shape& i) { return i; });
  add_view(samples, "narrow", "select from the end", uniform({3, 4}, 1, 9, 27), {4},
           [](const Tensor& x) { return x.select(0, -1); },
           [](const Shape& i) { return Shape{2, i[0]}; });
  const Tensor x = normal({2, 3}, 1);
  samples.errors.push_back({"reshape: sizes", [=] { x.reshape({4, 2}); },
                            "reshape of [2, 3] to [4, 2]: 6 elements do not fit"});
  samples.errors.push_back({"reshape: two inferred", [=] { x.reshape({-1, -1}); },
                            "reshape to [-1, -1]: sizes must not be negative, except one -1"});
  samples.errors.push_back({"expand", [=] { x.expand({2, 4}); },
                            "expand: shapes [2, 3] and [2, 4] cannot be broadcast"});
  samples.errors.push_back({"permute", [=] { x.permute({0, 0}); }, "every dimension must stand once"});
  samples.errors.push_back({"narrow", [=] { x.narrow(1, 2, 2); },
                            "narrow of [2, 3]: 2 elements from 2 leave dimension 1"});
  samples.errors.push_back({"select", [=] { x.select(0, 2); }, "select of [2, 3]: index 2 in dimension 0, it must lie between -2 and 1"});
  samples.errors.push_back({"cat: nothing", [] { cat({}); }, "cat of no tensors"});
  samples.errors.push_back({"cat: shapes", [=] { cat({x, normal({2, 4}, 2)}); },
                            "cat: a tensor is [2, 4], it must be [2, 3]"});
  samples.errors.push_back({"cat: dtypes", [=] { cat({x, x.to(Dtype::f32)}); }, "cat: dtypes f64 and f32 differ"});
  samples.errors.push_back({"split", [=] { split(x, {1, 3}, 1); }, "split: the sizes sum to 4"});
  samples.errors.push_back({"dimension", [=] { x.size(2); }, "dimension 2 is out of range for shape [2, 3]"});
}

}  // namespace sinter::testing
