#include "core/ops/gather.h"

#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;

std::int64_t whole(double x) { return static_cast<std::int64_t>(x); }

/// `index` with the place along d replaced.
Shape moved(Shape index, int d, std::int64_t place) {
  index[d] = place;
  return index;
}

Arrays expected_select(const Arrays& in, int d) {
  Shape shape = in[0].shape;
  shape[d] = in[1].size(0);
  return {make_array(shape, [&](const Shape& i) { return in[0].at(moved(i, d, whole(in[1].at({i[d]})))); })};
}

Arrays expected_add(const Arrays& in, int d) {
  HostArray out = in[0];
  for_each_index(in[2].shape, [&](const Shape& i) { out.at(moved(i, d, whole(in[1].at({i[d]})))) += in[2].at(i); });
  return {out};
}

Arrays expected_gather(const Arrays& in, int d) {
  return {make_array(in[1].shape, [&](const Shape& i) { return in[0].at(moved(i, d, whole(in[1].at(i))));
})};
}

Arrays expected_scatter(const Arrays& in, int d) {
  HostArray out = in[0];
  for_each_index(in[1].shape, [&](const Shape& i) { out.at(moved(i, d, whole(in[1].at(i)))) += in[2].at(i); });
  return {out};
}

void add(Samples& samples, const char* op, const char* label, Tensors inputs, int d,
         std::function<Tensor(Inputs, int)> call, Arrays (*expected)(const Arrays&, int)) {
  const bool copies = std::string(op) == "index_select" || std::string(op) == "gather";
  samples.valid.push_back({.op = op, .label = label, .inputs = std::move(inputs),
                           .call = [call = std::move(call), d](Inputs in) { return Tensors{call(in, d)}; },
                           .expected = [expected, d](const Arrays& in) { return expected(in, d); }, .terms = 6,
                           .more_dtypes = copies
                               ? std::vector<Dtype>{Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32, Dtype::u8}
                                                 : std::vector<Dtype>{Dtype::i64, Dtype::i32}});
}

}  // namespace

void gather_samples(Samples& samples) {
  const auto select = [](Inputs in, int d) { return index_select(in[0], d, in[1]); };
  const auto add_rows = [](Inputs in, int d) { return index_add(in[0], d, in[1], in[2]); };
  const auto pick = [](Inputs in, int d) { return gather(in[0], d, in[1]); };
  const auto scatter = [](Inputs in, int d) { return scatter_add(in[0], d, in[1], in[2]); };
  const Tensor x = uniform({4, 3}, 1, 9, 1);
  const Tensor columns = indices({2, 0, 1, 1, 2, 2, 0, 0}, {4, 2});
  const Tensor rows = indices({3, 3, 0, 1, 1, 1}, {2, 3});
  add(samples, "index_select", "rows, one twice", {x, indices({3, 0, 3})}, 0, select, expected_select);
  add(samples, "index_select", "columns", {x, indices({1, 1, 2, 0})}, 1, select, expected_select);
  add(samples, "index_select", "no index", {x, Tensor::empty({0}, {Dtype::i64})}, 0, select, expected_select);
  add(samples, "index_add", "rows, one twice", {x, indices({2, 2, 0}), uniform({3, 3}, 1, 9, 2)}, 0, add_rows,
      expected_add);
  add(samples, "index_add", "columns", {x, indices({1, 0}), uniform({4, 2}, 1, 9, 3)}, 1, add_rows, expected_add);
  add(samples, "gather", "columns", {x, columns}, 1, pick, expected_gather);
  add(samples, "gather", "rows", {x, rows}, 0, pick, expected_gather);
  add(samples, "scatter_add", "columns", {x, columns, uniform({4, 2}, 1, 9, 4)}, 1, scatter, expected_scatter);
  add(samples, "scatter_add", "rows", {x, rows, uniform({2, 3}, 1, 9, 5)}, 0, scatter, expected_scatter);
  samples.errors.push_back({"index_select: out of range", [=] { index_select(x, 0, indices({0, 4})); },
                            "index_select: index 1 is 4, it must lie between 0 and 3"});
  samples.errors.push_back({"index_select: dtype", [=] { index_select(x, 0, indices({0}).to(Dtype::i32)); },
                            "index_select: index is i32, it must be i64"});
  samples.errors.push_back({"gather: dtype", [=] { gather(x, 0, rows.to(Dtype::f64)); },
                            "gather: index is f64, it must be i64"});
  samples.errors.push_back({"index_select: negative", [=] { index_select(x, 1, indices({-1})); }, "index 0 is -1"});
  samples.errors.push_back({"index_select: rank", [=] { index_select(x, 1, columns); },
                            "index_select: index is [4, 2], it must be [8]"});
  samples.errors.push_back({"index_add: source", [=] { index_add(x, 0, indices({0, 1}), x); },
                            "index_add: source is [4, 3], it must be [2, 3]"});
  samples.errors.push_back({"index_add: dtypes",
                            [=] { index_add(x, 0, indices({0}), x.narrow(0, 0, 1).to(Dtype::f32)); },
                            "index_add: dtypes f64 and f32 differ"});
  samples.errors.push_back({"scatter_add: source", [=] { scatter_add(x, 1, columns, x); },
                            "scatter_add: source is [4, 3], it must be [4, 2]"});
  samples.errors.push_back({"gather: sizes", [=] { gather(x, 0, columns); }, "gather: index is [4, 2]"});
  samples.errors.push_back({"scatter_add: range",
                            [=] { scatter_add(x, 1, indices({3}, {1, 1}).expand({4, 1}), x.narrow(1, 0, 1)); },
                            "scatter_add: index 0 is 3, it must lie between 0 and 2"});
}

}  // namespace sinter::testing
