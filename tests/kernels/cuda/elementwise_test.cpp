#include "kernels/elementwise.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/device_under_test.h"
#include "tests/kernels/layouts.h"

namespace sinter::kernels::testing {
namespace {

constexpr Tolerance kSameValues = {.ulps = 0};
/// One rounding of the exact result.
constexpr Tolerance kRounded = {.ulps = 1, .each = true};

Strides strides(std::initializer_list<std::int64_t> steps) {
  Strides s;
  std::copy(steps.begin(), steps.end(), s.step);
  return s;
}

std::string describe(const Extents& extents, Dtype dtype) {
  std::string text = name(dtype);
  for (int d = 0; d < extents.rank; ++d) text += " " + std::to_string(extents.size[d]);
  return text;
}

// --- Unary ---

struct UnaryCheck {
  UnaryOp op;
  double ulps;   ///< in unit roundoffs: what CUDA's mathematics promises (2 to an ulp) and what is rounded after it
  double alpha = 0;
};
constexpr UnaryCheck kFloatingUnary[] = {
    {UnaryOp::neg, 1}, {UnaryOp::abs, 1}, {UnaryOp::exp, 5}, {UnaryOp::log, 5}, {UnaryOp::sqrt, 1},
    {UnaryOp::rsqrt, 2}, {UnaryOp::reciprocal, 1}, {UnaryOp::sin, 6}, {UnaryOp::cos, 6}, {UnaryOp::tanh, 5},
    {UnaryOp::erf, 5}, {UnaryOp::sigmoid, 8}, {UnaryOp::relu, 1}, {UnaryOp::add_scalar, 1, 0.3},
    {UnaryOp::mul_scalar, 1, -1.7}, {UnaryOp::pow_scalar, 9, 2}, {UnaryOp::pow_scalar, 9, 3},
    {UnaryOp::pow_scalar, 9, -0.37}};

TEST(UnaryOnDevice, EveryFloatingOp) {
  for (const Dtype dtype : kDeviceDtypes)
    for (const auto& [op, ulps, alpha] : kFloatingUnary) {
      SCOPED_TRACE(std::string(name(dtype)) + ", op " + std::to_string(static_cast<int>(op)));
      const Extents extents = make_extents({1500});
      DeviceCase<Unary> c({.op = op, .dtype = dtype, .extents = extents, .in_strides = contiguous_strides(extents),
                           .alpha = alpha});
      c.input_elements(c.params.in, dtype, any_elements(dtype, 1500, 3));
      c.output(c.params.out, dtype, 1500, {.ulps = ulps, .each = true});
      c.check_with("vectors");
    }
}

TEST(UnaryOnDevice, SineAndCosineOfEveryMagnitude) {
  std::vector<double> x;
  for (int e = -60; e < 1000; ++e) x.insert(x.end(), {std::ldexp(1.37, e), -std::ldexp(1.91, e)});
  for (int n = 1; n < 200; ++n) x.insert(x.end(), {n * 0.78539816339744831, n * -1.5707963267948966, n * 355.0});
  const Extents extents = make_extents({static_cast<std::int64_t>(x.size())});
  for (const Dtype dtype : {Dtype::f32, Dtype::f64})
    for (const UnaryOp op : {UnaryOp::sin, UnaryOp::cos}) {
      DeviceCase<Unary> c({.op = op, .dtype = dtype, .extents = extents, .in_strides = contiguous_strides(extents)});
      c.input(c.params.in, dtype, x);
      c.output(c.params.out, dtype, extents.count(), {.ulps = 6, .each = true});
      c.check();
    }
}

TEST(UnaryOnDevice, EveryIntegerAndBooleanOp) {
  const Extents extents = make_extents({37});
  const auto check = [&](UnaryOp op, Dtype dtype, double alpha) {
    SCOPED_TRACE(std::string(name(dtype)) + ", op " + std::to_string(static_cast<int>(op)));
    DeviceCase<Unary> c({.op = op, .dtype = dtype, .extents = extents, .in_strides = contiguous_strides(extents),
                         .alpha = alpha});
    c.input_elements(c.params.in, dtype, any_elements(dtype, 37, 4));
    c.output(c.params.out, dtype, 37, kSameValues);
    c.check_with("vectors");
  };
  for (const Dtype dtype : {Dtype::i64, Dtype::i32})
    for (const UnaryOp op : {UnaryOp::neg, UnaryOp::abs, UnaryOp::add_scalar, UnaryOp::mul_scalar})
      for (const double alpha : {-3.7, 1e30, 77777.0}) check(op, dtype, alpha);
  check(UnaryOp::logical_not, Dtype::boolean, 0);
}

TEST(UnaryOnDevice, EveryLayoutAndRank) {
  const Extents shapes[] = {make_extents({}),        make_extents({1}),       make_extents({0}),
                            make_extents({3, 0, 2}), make_extents({7}),       make_extents({33, 65}),
                            make_extents({24, 16}),  make_extents({3, 5, 8}), make_extents({2, 2, 3, 2, 1, 4})};
  for (const auto& [op, dtype] : {std::pair{UnaryOp::neg, Dtype::f64}, {UnaryOp::relu, Dtype::bf16},
                                  {UnaryOp::abs, Dtype::i32}, {UnaryOp::logical_not, Dtype::boolean}})
    for (const Extents& extents : shapes)
      for (const Layout layout : kAllLayouts)
        for (const std::size_t place : {0, 1}) {
          SCOPED_TRACE(describe(extents, dtype) + " " + name(layout) + " from " + std::to_string(place));
          DeviceCase<Unary> c({.op = op, .dtype = dtype, .extents = extents,
                               .in_strides = make_strides(extents, layout)});
          c.input_elements(c.params.in, dtype, any_elements(dtype, span_of(extents, c.params.in_strides), 5));
          c.misalign(place * size_of(dtype));
          c.output(c.params.out, dtype, extents.count(), {.ulps = 1, .each = true});
          c.check();
        }
}

TEST(UnaryOnDevice, InPlace) {
  for (const std::int64_t n : {1, 5, 2050}) {
    const Extents extents = make_extents({n});
    DeviceCase<Unary> c({.op = UnaryOp::mul_scalar, .extents = extents, .in_strides = contiguous_strides(extents),
                         .alpha = 3});
    c.in_out(c.params.out, Dtype::f32, normal_values(n, 6), kRounded);
    c.share(c.params.in, c.params.out);
    c.check_with("vectors");
  }
}

// --- Binary ---

Dtype result_dtype(const Binary& p) { return is_comparison(p.op) ? Dtype::boolean : p.dtype; }

struct BinaryCase : DeviceCase<Binary> {
  explicit BinaryCase(const Binary& p, std::size_t a_misalignment = 0, std::size_t b_misalignment = 0)
      : DeviceCase<Binary>(p) {
    const std::int64_t a = span_of(p.extents, p.a_strides), b = span_of(p.extents, p.b_strides);
    input_elements(params.a, p.dtype, any_elements(p.dtype, a, 7));
    misalign(a_misalignment);
    // Small numbers also meet equals, zeros and -1.
    if (p.dtype == Dtype::i64 || p.dtype == Dtype::i32)
      input(params.b, p.dtype, whole_values(b, -3, 4, 8));
    else
      input_elements(params.b, p.dtype, any_elements(p.dtype, b, 8));
    misalign(b_misalignment);
    output(params.out, result_dtype(p), p.extents.count(), kRounded);
  }
};

Binary binary(BinaryOp op, Dtype dtype, const Extents& extents) {
  return {.op = op, .dtype = dtype, .extents = extents, .a_strides = contiguous_strides(extents),
          .b_strides = contiguous_strides(extents)};
}

bool has_dtype(BinaryOp op, Dtype dtype) {
  if (op == BinaryOp::logical_and || op == BinaryOp::logical_or) return dtype == Dtype::boolean;
  return is_comparison(op) || (dtype != Dtype::boolean && dtype != Dtype::u8);
}

TEST(BinaryOnDevice, EveryOpAndDtype) {
  for (int op = 0; op < static_cast<int>(BinaryOp::count_); ++op)
    for (const Dtype dtype : kAllDtypes) {
      SCOPED_TRACE(std::string(name(dtype)) + ", op " + std::to_string(op));
      Binary p = binary(static_cast<BinaryOp>(op), dtype, make_extents({300}));
      if (!has_dtype(p.op, dtype)) {
        expect_refused(p, "no such dtype");
        continue;
      }
      BinaryCase(p).check_with("vectors");
      p = binary(p.op, dtype, make_extents({5, 7}));
      p.b_strides = strides({1, 5});
      BinaryCase(p).check_with("divided");
    }
}

TEST(BinaryOnDevice, TheSmallestIntegerByMinusOneWraps) {
  for (const Dtype dtype : {Dtype::i32, Dtype::i64}) {
    DeviceCase<Binary> c(binary(BinaryOp::div, dtype, make_extents({3})));
    c.input(c.params.a, dtype, {-1e30, -1e30, 1e30});   // saturates
    c.input(c.params.b, dtype, {-1, 0, -1});
    c.output(c.params.out, dtype, 3, kSameValues);
    c.check();
  }
}

TEST(BinaryOnDevice, EveryPairOfLayouts) {
  const Extents shapes[] = {make_extents({}), make_extents({0, 3}), make_extents({33, 65}), make_extents({24, 16}),
                            make_extents({2, 2, 3, 2, 1, 4})};
  for (const auto& [op, dtype] : {std::pair{BinaryOp::sub, Dtype::f16}, {BinaryOp::lt, Dtype::f32},
                                  {BinaryOp::ge, Dtype::u8}, {BinaryOp::add, Dtype::i64}})
    for (const Extents& extents : shapes)
      for (const Layout a : kAllLayouts)
        for (const Layout b : kAllLayouts) {
          SCOPED_TRACE(describe(extents, dtype) + " " + name(a) + " and " + name(b));
          Binary p = binary(op, dtype, extents);
          p.a_strides = make_strides(extents, a);
          p.b_strides = make_strides(extents, b);
          BinaryCase(p).check();
        }
}

TEST(BinaryOnDevice, BroadcastsInVectors) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f64})
    for (const std::int64_t cols : {8, 16, 24, 1024}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(cols));
      Binary p = binary(BinaryOp::add, dtype, make_extents({6, cols}));
      p.b_strides = strides({0, 1});   // a bias
      BinaryCase(p).check_with("vectors");
      p.b_strides = strides({1, 0});   // a factor for each row
      BinaryCase(p).check_with("vectors");
      p.b_strides = strides({0, 0});
      BinaryCase(p).check_with("vectors");
      std::swap(p.a_strides, p.b_strides);
      BinaryCase(p).check_with("vectors");
      p.extents = make_extents({3, 2, cols});
      p.a_strides = strides({cols, 0, 1});
      p.b_strides = strides({cols * 16, cols * 4, 1});
      BinaryCase(p).check_with("vectors");
      p.b_strides = strides({cols * 16, cols * 4 + 1, 1});   // every second row lies between vectors
      BinaryCase(p).check_with("divided");
      BinaryCase(p, size_of(dtype), 0).check_with("divided");
    }
  for (const std::int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 1023, 1025}) {
    const Binary p = binary(BinaryOp::mul, Dtype::f32, make_extents({n}));
    BinaryCase(p).check_with("vectors");
    BinaryCase(p, 4, 0).check();
    BinaryCase(p, 0, 8).check();
  }
}

TEST(BinaryOnDevice, InPlaceOnEitherSide) {
  for (const bool left : {true, false}) {
    DeviceCase<Binary> c(binary(BinaryOp::sub, Dtype::f32, make_extents({1029})));
    c.in_out(c.params.out, Dtype::f32, normal_values(1029, 1), kRounded);
    c.share(left ? c.params.a : c.params.b, c.params.out);
    c.input(left ? c.params.b : c.params.a, Dtype::f32, normal_values(1029, 2));
    c.check_with("vectors");
  }
}

// --- Where ---

TEST(WhereOnDevice, EveryDtypeAndLayout) {
  const Extents shapes[] = {make_extents({}), make_extents({0}), make_extents({37}), make_extents({1040}),
                            make_extents({24, 16}), make_extents({3, 5, 7})};
  for (const Dtype dtype : kAllDtypes)
    for (const Extents& extents : shapes)
      for (const auto& [condition, a, b] :
           {std::tuple{Layout::contiguous, Layout::contiguous, Layout::contiguous},
            {Layout::contiguous, Layout::scalar, Layout::contiguous},
            {Layout::broadcast, Layout::contiguous, Layout::scalar},
            {Layout::transposed, Layout::sliced, Layout::broadcast}}) {
        SCOPED_TRACE(describe(extents, dtype) + " " + name(condition) + " " + name(a) + " " + name(b));
        DeviceCase<Where> c({.dtype = dtype, .extents = extents, .condition_strides = make_strides(extents, condition),
                             .a_strides = make_strides(extents, a), .b_strides = make_strides(extents, b)});
        c.input_elements(c.params.condition, Dtype::boolean,
                         any_elements(Dtype::boolean, span_of(extents, c.params.condition_strides), 1));
        c.input_elements(c.params.a, dtype, any_elements(dtype, span_of(extents, c.params.a_strides), 2));
        c.input_elements(c.params.b, dtype, any_elements(dtype, span_of(extents, c.params.b_strides), 3));
        c.output(c.params.out, dtype, extents.count(), kSameValues);
        c.check();
      }
}

// --- Selection ---

TEST(ElementwiseOnDevice, TheBestVariantThatCanIsSelected) {
  alignas(16) float memory[64] = {};
  const Extents small = make_extents({8, 8}), huge = make_extents({std::int64_t{1} << 16, (std::int64_t{1} << 15) + 1});
  Unary unary = {.extents = small, .in_strides = strides({8, 1}), .in = memory, .out = memory};
  EXPECT_EQ(selected_variant(unary), "vectors");
  unary.in = memory + 1;
  EXPECT_EQ(selected_variant(unary), "divided");
  unary.extents = huge;
  EXPECT_EQ(selected_variant(unary), "by_element");
  EXPECT_EQ(run(device_under_test(), unary, {}, 1).code, StatusCode::unsupported);

  Binary plus = {.extents = small, .a_strides = strides({8, 1}), .b_strides = strides({0, 1}), .a = memory,
                 .b = memory, .out = memory};
  EXPECT_EQ(selected_variant(plus), "vectors");
  plus.b_strides = strides({1, 8});
  EXPECT_EQ(selected_variant(plus), "divided");
  plus.extents = huge;
  EXPECT_EQ(selected_variant(plus), "by_element");
  EXPECT_EQ(run(device_under_test(), plus, {}, 1).code, StatusCode::unsupported);

  Where where = {.extents = small, .condition_strides = strides({8, 1}), .a_strides = strides({8, 1}),
                 .condition = memory, .a = memory, .b = memory, .out = memory};
  EXPECT_EQ(selected_variant(where), "vectors");
  where.a_strides = strides({9, 1});
  EXPECT_EQ(selected_variant(where), "divided");
  where.extents = huge;
  EXPECT_EQ(selected_variant(where), "by_element");
  EXPECT_EQ(run(device_under_test(), where, {}, 1).code, StatusCode::unsupported);
}

TEST(ElementwiseOnDevice, DtypesThatAnOpDoesNotKnowAreRefused) {
  for (const Dtype dtype : {Dtype::u8, Dtype::boolean})
    expect_refused(Unary{.op = UnaryOp::neg, .dtype = dtype}, "no such dtype");
  expect_refused(Unary{.op = UnaryOp::exp, .dtype = Dtype::i64}, "no such dtype");
  expect_refused(Unary{.op = UnaryOp::logical_not, .dtype = Dtype::f32}, "no such dtype");
}

}  // namespace
}  // namespace sinter::kernels::testing
