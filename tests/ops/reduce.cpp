#include "core/ops/reduce.h"

#include <cmath>

#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;

/// Folds the elements of `in` that fall on each place of the result.
Arrays fold(const HostArray& in, std::uint32_t reduced, bool keepdim, double start, double (*combine)(double, double)) {
  Shape kept = in.shape, shape;
  for (int d = 0; d < kept.rank(); ++d) {
    const bool away = (reduced >> d & 1u) != 0;
    if (away) kept[d] = 1;
    if (!away || keepdim) shape.push_back(kept[d]);
  }
  HostArray out(kept);
  for (double& x : out.values) x = start;
  for_each_index(in.shape, [&](const Shape& index) {
    Shape place = index;
    for (int d = 0; d < place.rank(); ++d)
      if ((reduced >> d & 1u) != 0) place[d] = 0;
    out.at(place) = combine(out.at(place), in.at(index));
  });
  out.shape = shape;
  return {out};
}

double plus(double a, double b) { return a + b; }
double larger(double a, double b) { return std::max(a, b); }
double smaller(double a, double b) { return std::min(a, b); }

void extremum_samples(Samples& samples) {
  const std::vector<Dtype> integers = {Dtype::i64, Dtype::i32};
  // Distinct values, so that the derivative exists.
  const Tensor x = Tensor::from<double>({3, -1, 7, 2, 12, 5, -4, 9, 0.5, 6, -2, 8}).reshape({3, 4});
  const Tensor ties = Tensor::from<double>({1, 3, 3, 2, 2, 2}).reshape({2, 3});
  samples.valid.push_back({.op = "amax", .label = "columns", .inputs = {x},
                           .call = [](Inputs in) { return Tensors{amax(in[0], {0})}; },
                           .expected = [](const Arrays& in) { return fold(in[0], 1, false, -1e300, larger); },
                           .more_dtypes = integers});
  samples.valid.push_back({.op = "amin", .label = "rows kept", .inputs = {x},
                           .call = [](Inputs in) { return Tensors{amin(in[0], {-1}, true)}; },
                           .expected = [](const Arrays& in) { return fold(in[0], 2, true, 1e300, smaller); },
                           .more_dtypes = integers});
  samples.valid.push_back({.op = "amax", .label = "ties", .inputs = {ties},
                           .call = [](Inputs in) { return Tensors{amax(in[0], {1})}; },
                           .expected = [](const Arrays& in) { return fold(in[0], 2, false, -1e300, larger); },
                           .no_gradcheck = "a kink where elements are equal"});
  samples.valid.push_back({.op = "amin", .label = "ties", .inputs = {ties},
                           .call = [](Inputs in) { return Tensors{amin(in[0], {0, 1})}; },
                           .expected = [](const Arrays& in) { return fold(in[0], 3, false, 1e300, smaller); },
                           .no_gradcheck = "a kink where elements are equal"});
  samples.valid.push_back({.op = "argmax", .label = "the first among equals", .inputs = {ties},
                           .call = [](Inputs in) { return Tensors{argmax(in[0])}; },
                           .expected = [](const Arrays& in) {
                             return Arrays{make_array({in[0].size(0)}, [&](const Shape& i) {
                               std::int64_t best = 0;
                               for (std::int64_t j = 1; j < in[0].size(1); ++j)
                                 if (in[0].at({i[0], j}) > in[0].at({i[0], best})) best = j;
                               return static_cast<double>(best);
                             })};
                           },
                           .more_dtypes = integers});
  samples.valid.push_back({.op = "argmax", .label = "first dimension", .inputs = {x},
                           .call = [](Inputs in) { return Tensors{argmax(in[0], 0)}; },
                           .expected = [](const Arrays& in) {
                             return Arrays{make_array({in[0].size(1)}, [&](const Shape& i) {
                               std::int64_t best = 0;
                               for (std::int64_t j = 1; j < in[0].size(0); ++j)
                                 if (in[0].at({j, i[0]}) > in[0].at({best, i[0]})) best = j;
                               return static_cast<double>(best);
                             })};
                           },
                           .more_dtypes = integers});
}

}  // namespace

void reduce_samples(Samples& samples) {
  const std::vector<Dtype> integers = {Dtype::i64, Dtype::i32};
  struct Case {
    const char* label;
    Shape shape;
    std::vector<int> dims;
    std::uint32_t mask;
    bool keepdim;
  };
  const Case cases[] = {{"last dimension", {3, 7}, {-1}, 2, false}, {"first dimension", {5, 4}, {0}, 1, false},
                        {"outer dimensions kept", {3, 4, 2}, {0, 2}, 5, true}, {"all", {3, 33}, {0, 1}, 3, false},
                        {"nothing reduced", {2, 3}, {}, 0, false}, {"scalar", {}, {}, 0, false},
                        {"sum of nothing", {0, 3}, {0}, 1, false}};
  std::uint32_t site = 1;
  for (const Case& c : cases)
    samples.valid.push_back({.op = "sum", .label = c.label, .inputs = {normal(c.shape, site++, 1, 3)},
                             .call = [c](Inputs in) { return Tensors{sum(in[0], c.dims, c.keepdim)}; },
                             .expected = [c](const Arrays& in) { return fold(in[0], c.mask, c.keepdim, 0, plus); },
                             .terms = 100, .more_dtypes = integers});
  samples.valid.push_back({.op = "sum", .label = "of a boolean", .inputs = {booleans({1, 0, 1, 1, 1, 0}, {2, 3})},
                           .call = [](Inputs in) { return Tensors{sum(in[0], {1})}; },
                           .expected = [](const Arrays& in) { return fold(in[0], 2, false, 0, plus); }});
  samples.valid.push_back({.op = "sum", .label = "mean", .inputs = {normal({4, 9}, 50)},
                           .call = [](Inputs in) { return Tensors{mean(in[0], {1}, true)}; },
                           .expected = [](const Arrays& in) {
                             Arrays out = fold(in[0], 2, true, 0, plus);
                             for (double& x : out[0].values) x /= 9;
                             return out;
                           },
                           .terms = 9});
  extremum_samples(samples);
  const Tensor x = normal({2, 3}, 1);
  samples.errors.push_back({"sum: dimension", [=] { sum(x, {2}); }, "dimension 2 is out of range"});
  samples.errors.push_back({"sum: a dimension twice", [=] { sum(x, {1, 1}); },
                            "sum of [2, 3]: dimension 1 stands twice"});
  samples.errors.push_back({"mean: a dimension twice", [=] { mean(x, {0, -2}); },
                            "sum of [2, 3]: dimension 0 stands twice"});
  samples.errors.push_back({"argmax of nothing", [] { argmax(normal({3, 0}, 1)); },
                            "argmax: argmax needs at least one element"});
  samples.errors.push_back({"amax of nothing", [] { amax(normal({0, 3}, 1), {0}); },
                            "amax: max and min need at least one element"});
}

}  // namespace sinter::testing
