#include "core/ops/elementwise.h"

#include <cmath>

#include "core/error.h"
#include "tests/ops/sample.h"

namespace sinter::testing {
namespace {

using Arrays = std::vector<HostArray>;

struct UnaryCase {
  const char* op;
  double low, high;                   // where the values are drawn
  std::function<Tensor(const Tensor&)> call;
  double (*formula)(double);
  std::vector<Dtype> more_dtypes = {};
};

auto map_one(std::function<double(double)> formula) {
  return [formula = std::move(formula)](const Arrays& in) {
    HostArray out = in[0];
    for (double& x : out.values) x = formula(x);
    return Arrays{out};
  };
}

auto map_two(std::function<double(double, double)> formula) {
  return [formula = std::move(formula)](const Arrays& in) {
    return Arrays{make_array(common_shape(in[0].shape, in[1].shape), [&](const Shape& index) {
      return formula(in[0].broadcast_at(index), in[1].broadcast_at(index));
    })};
  };
}

const std::vector<UnaryCase>& unary_cases() {
  static const std::vector<UnaryCase> cases = {
      {"neg", -3, 3, [](const Tensor& x) { return -x; }, [](double x) { return -x; }, {Dtype::i64, Dtype::i32}},
      {"exp", -3, 3, [](const Tensor& x) { return exp(x); }, [](double x) { return std::exp(x); }},
      {"log", 0.3, 4, [](const Tensor& x) { return log(x); }, [](double x) { return std::log(x); }},
      {"sqrt", 0.3, 4, [](const Tensor& x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }},
      {"rsqrt", 0.5, 4, [](const Tensor& x) { return rsqrt(x); }, [](double x) { return 1 / std::sqrt(x); }},
      {"reciprocal", 0.5, 3, [](const Tensor& x) { return reciprocal(x); }, [](double x) { return 1 / x; }},
      {"sin", -4, 4, [](const Tensor& x) { return sin(x); }, [](double x) { return std::sin(x); }},
      {"cos", -4, 4, [](const Tensor& x) { return cos(x); }, [](double x) { return std::cos(x); }},
      {"tanh", -3, 3, [](const Tensor& x) { return tanh(x); }, [](double x) { return std::tanh(x); }},
      {"erf", -2, 2, [](const Tensor& x) { return erf(x); }, [](double x) { return std::erf(x); }},
      {"sigmoid", -4, 4, [](const Tensor& x) { return sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }},
      {"add_scalar", -3, 3, [](const Tensor& x) { return x + 2.0; }, [](double x) { return x + 2; },
       {Dtype::i64, Dtype::i32}},
      {"mul_scalar", -3, 3, [](const Tensor& x) { return x * -3.0; }, [](double x) { return x * -3; },
       {Dtype::i64, Dtype::i32}},
      {"pow_scalar", 0.4, 2, [](const Tensor& x) { return pow(x, 2.5); }, [](double x) { return std::pow(x, 2.5); }},
  };
  return cases;
}

void unary_samples(Samples& samples) {
  std::uint32_t site = 100;
  for (const UnaryCase& c : unary_cases()) {
    const auto add_shape = [&](const char* label, const Shape& shape) {
      samples.valid.push_back({.op = c.op, .label = label, .inputs = {uniform(shape, c.low, c.high, site++)},
                               .call = [call = c.call](Inputs in) { return Tensors{call(in[0])}; },
                               .expected = map_one(c.formula), .more_dtypes = c.more_dtypes});
    };
    add_shape("a row that fills no vector", {3, 7});
    add_shape("scalar", {});
    add_shape("empty", {2, 0, 3});
  }
  // Away from the kink: values are at least 0.1, times a sign.
  const Tensor signs = Tensor::from<double>({1, -1, -1, 1, 1, -1, 1});
  const Tensor kinked = uniform({5, 7}, 0.1, 2, 90) * signs;
  samples.valid.push_back({.op = "relu", .label = "both signs", .inputs = {kinked},
                           .call = [](Inputs in) { return Tensors{relu(in[0])}; },
                           .expected = map_one([](double x) { return x > 0 ? x : 0; })});
  samples.valid.push_back({.op = "abs", .label = "both signs", .inputs = {kinked},
                           .call = [](Inputs in) { return Tensors{abs(in[0])}; },
                           .expected = map_one([](double x) { return std::abs(x); }),
                           .more_dtypes = {Dtype::i64, Dtype::i32}});
  const Tensor zeros = Tensor::from<double>({0, 1, -2});
  samples.valid.push_back({.op = "relu", .label = "zero", .inputs = {zeros},
                           .call = [](Inputs in) { return Tensors{relu(in[0])}; },
                           .expected = map_one([](double x) { return x > 0 ? x : 0; }), .no_gradcheck = "a kink at 0"});
  samples.valid.push_back({.op = "abs", .label = "zero", .inputs = {zeros},
                           .call = [](Inputs in) { return Tensors{abs(in[0])}; },
                           .expected = map_one([](double x) { return std::abs(x); }), .no_gradcheck = "a kink at 0"});
  samples.valid.push_back({.op = "pow_scalar", .label = "negative base, whole exponent", .inputs = {normal({9}, 91)},
                           .call = [](Inputs in) { return Tensors{pow(in[0], 3)}; },
                           .expected = map_one([](double x) { return x * x * x; })});
  for (const int exponent : {0, 1, 2})
    samples.valid.push_back({.op = "pow_scalar", .label = "0 to the power of " + std::to_string(exponent),
                             .inputs = {Tensor::zeros({3}, {Dtype::f64})},
                             .call = [=](Inputs in) { return Tensors{pow(in[0], exponent)}; },
                             .expected = map_one([=](double) { return exponent == 0 ? 1 : 0; })});
  samples.valid.push_back({.op = "logical_not", .label = "row", .inputs = {booleans({1, 0, 0, 1, 1, 0}, {2, 3})},
                           .call = [](Inputs in) { return Tensors{logical_not(in[0])}; },
                           .expected = map_one([](double x) { return x == 0 ? 1 : 0; })});
}

struct BinaryCase {
  const char* op;
  Tensor (*call)(const Tensor&, const Tensor&);
  double (*formula)(double, double);
  std::vector<Dtype> more_dtypes = {};
  bool arithmetic = true;
};

const std::vector<BinaryCase>& binary_cases() {
  static const std::vector<Dtype> integers = {Dtype::i64, Dtype::i32};
  static const std::vector<Dtype> every = {Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32, Dtype::u8};
  static const std::vector<BinaryCase> cases = {
      {"add", add, [](double a, double b) { return a + b; }, integers},
      {"sub", sub, [](double a, double b) { return a - b; }, integers},
      {"mul", mul, [](double a, double b) { return a * b; }, integers},
      {"div", div, [](double a, double b) { return a / b; }},
      {"maximum", maximum, [](double a, double b) { return std::max(a, b); }, integers},
      {"minimum", minimum, [](double a, double b) { return std::min(a, b); }, integers},
      {"compare", eq, [](double a, double b) { return static_cast<double>(a == b); }, every, false},
      {"compare", ne, [](double a, double b) { return static_cast<double>(a != b); }, every, false},
      {"compare", lt, [](double a, double b) { return static_cast<double>(a < b); }, every, false},
      {"compare", le, [](double a, double b) { return static_cast<double>(a <= b); }, every, false},
      {"compare", gt, [](double a, double b) { return static_cast<double>(a > b); }, every, false},
      {"compare", ge, [](double a, double b) { return static_cast<double>(a >= b); }, every, false},
  };
  return cases;
}

void binary_samples(Samples& samples) {
  struct Pair {
    const char* label;
    Shape a, b;
  };
  const Pair pairs[] = {{"equal shapes", {3, 5}, {3, 5}},        {"row", {4, 9}, {9}},
                        {"column", {3, 7}, {3, 1}},              {"both broadcast", {2, 1, 5}, {4, 1}},
                        {"scalar", {}, {}},                      {"scalar and matrix", {}, {2, 3}},
                        {"empty", {0, 3}, {3}}};
  std::uint32_t site = 300;
  for (const BinaryCase& c : binary_cases())
    for (const Pair& pair : pairs) {
      Sample sample{.op = c.op, .label = pair.label,
                    .inputs = {uniform(pair.a, 0.5, 2.5, site), uniform(pair.b, 0.5, 2.5, site + 1)},
                    .call = [call = c.call](Inputs in) { return Tensors{call(in[0], in[1])}; },
                    .expected = map_two(c.formula), .terms = 8, .more_dtypes = c.more_dtypes};
      if (!c.arithmetic) {  // some equal values among them
        sample.inputs = {(sample.inputs[0] * 2.0).to(Dtype::i64).to(Dtype::f64),
                         (sample.inputs[1] * 2.0).to(Dtype::i64).to(Dtype::f64)};
      }
      samples.valid.push_back(std::move(sample));
      site += 2;
    }
  const Tensor ties = Tensor::from<double>({1, 2, 3, 4});
  const Tensor other = Tensor::from<double>({1, 3, 3, -4});
  samples.valid.push_back({.op = "maximum", .label = "ties", .inputs = {ties, other},
                           .call = [](Inputs in) { return Tensors{maximum(in[0], in[1])}; },
                           .expected = map_two([](double a, double b) { return std::max(a, b); }),
                           .no_gradcheck = "a kink where both are equal"});
  samples.valid.push_back({.op = "minimum", .label = "ties", .inputs = {ties, other},
                           .call = [](Inputs in) { return Tensors{minimum(in[0], in[1])}; },
                           .expected = map_two([](double a, double b) { return std::min(a, b); }),
                           .no_gradcheck = "a kink where both are equal"});
  const Tensor p = booleans({1, 1, 0, 0}, {4}), q = booleans({1, 0, 1, 0}, {4});
  samples.valid.push_back({.op = "logical", .label = "and", .inputs = {p, q},
                           .call = [](Inputs in) { return Tensors{logical_and(in[0], in[1])}; },
                           .expected = map_two([](double a, double b) { return a * b; })});
  samples.valid.push_back({.op = "logical", .label = "or", .inputs = {p, q.reshape({4, 1})},
                           .call = [](Inputs in) { return Tensors{logical_or(in[0], in[1])}; },
                           .expected = map_two([](double a, double b) { return std::max(a, b); })});
}

Arrays select_elements(const Arrays& in) {
  const Shape shape = common_shape(common_shape(in[0].shape, in[1].shape), in[2].shape);
  return {make_array(shape, [&](const Shape& index) {
    return in[0].broadcast_at(index) != 0 ? in[1].broadcast_at(index) : in[2].broadcast_at(index);
  })};
}

void where_samples(Samples& samples) {
  const std::vector<Dtype> every = {Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean};
  const Tensor condition = booleans({1, 0, 0, 1, 1, 0}, {2, 3});
  const TensorCall call = [](Inputs in) { return Tensors{where(in[0], in[1], in[2])}; };
  samples.valid.push_back({.op = "where", .label = "equal shapes",
                           .inputs = {condition, uniform({2, 3}, 1, 9, 60), uniform({2, 3}, 1, 9, 61)},
                           .call = call, .expected = select_elements, .more_dtypes = every});
  samples.valid.push_back({.op = "where", .label = "all broadcast",
                           .inputs = {condition.reshape({2, 1, 3}), uniform({5, 1}, 1, 9, 62), uniform({}, 1, 9, 63)},
                           .call = call, .expected = select_elements, .terms = 30, .more_dtypes = every});
  samples.valid.push_back({.op = "where", .label = "masked_fill",
                           .inputs = {booleans({1, 0, 1}, {3}), normal({4, 3}, 64)},
                           .call = [](Inputs in) { return Tensors{masked_fill(in[1], in[0], -5)}; },
                           .expected = [](const Arrays& in) {
                             return Arrays{make_array(in[1].shape, [&](const Shape& index) {
                               return in[0].broadcast_at(index) != 0 ? -5 : in[1].at(index);
                             })};
                           }});
}

}  // namespace

void elementwise_samples(Samples& samples) {
  unary_samples(samples);
  binary_samples(samples);
  where_samples(samples);
  const Tensor x = normal({2, 3}, 1), y = normal({4, 3}, 2);
  samples.errors.push_back({"add: shapes", [=] { add(x, y); }, "add: shapes [2, 3] and [4, 3] cannot be broadcast"});
  samples.errors.push_back({"mul: dtypes", [=] { mul(x, x.to(Dtype::f32)); }, "mul: dtypes f64 and f32 differ"});
  samples.errors.push_back({"add: computing in f16", [=] { add(x.to(Dtype::f16), x.to(Dtype::f16)); },
                            "add: the CPU computes in f32 and f64, not in f16; cast with to(Dtype::f32)"});
  samples.errors.push_back({"where: shapes", [=] { where(lt(x, x), x, y); },
                            "where: shapes [2, 3] and [4, 3] cannot be broadcast"});
  samples.errors.push_back({"where: dtypes", [=] { where(lt(x, x), x, x.to(Dtype::f32)); },
                            "where: dtypes f64 and f32 differ"});
  samples.errors.push_back({"where: condition", [=] { where(x, x, x); },
                            "where: the condition is f64, it must be bool"});
  samples.errors.push_back({"exp of integers", [=] { exp(x.to(Dtype::i64)); },
                            "exp: the CPU does not compute this on i64; cast with to(Dtype::f64)"});
  samples.errors.push_back({"undefined", [=] { exp(Tensor()); }, "of an undefined tensor"});
}

}  // namespace sinter::testing
