#include "kernels/elementwise.h"

#include "tests/kernels/strided_case.h"

namespace sinter::kernels {
namespace {

using namespace testing;

const std::vector<Extents>& shapes() {
  static const std::vector<Extents> all = {
      make_extents({}),      make_extents({1}),       make_extents({7}),           make_extents({100}),
      make_extents({0}),     make_extents({3, 0, 2}), make_extents({5, 33}),       make_extents({33, 1}),
      make_extents({3, 5, 7}), make_extents({2, 3, 1, 5}), make_extents({2, 3, 2, 2, 3}),
      make_extents({2, 2, 3, 2, 1, 4}),
  };
  return all;
}

constexpr UnaryOp kEveryNumber[] = {UnaryOp::neg, UnaryOp::abs, UnaryOp::add_scalar, UnaryOp::mul_scalar};

AnyBuffer computed(const BackendModule& module, Unary p, const AnyBuffer& in, Stream stream = {}) {
  AnyBuffer out(p.dtype, p.extents.count());
  p.in = in.data();
  p.out = out.data();
  EXPECT_TRUE(run_ok(module, p, stream));
  return out;
}

AnyBuffer computed(const BackendModule& module, Binary p, const AnyBuffer& a, const AnyBuffer& b, Stream stream = {}) {
  AnyBuffer out(is_comparison(p.op) ? Dtype::boolean : p.dtype, p.extents.count());
  p.a = a.data();
  p.b = b.data();
  p.out = out.data();
  EXPECT_TRUE(run_ok(module, p, stream));
  return out;
}

AnyBuffer computed(const BackendModule& module, Where p, const AnyBuffer& condition, const AnyBuffer& a,
                   const AnyBuffer& b, Stream stream = {}) {
  AnyBuffer out(p.dtype, p.extents.count());
  p.condition = condition.data();
  p.a = a.data();
  p.b = b.data();
  p.out = out.data();
  EXPECT_TRUE(run_ok(module, p, stream));
  return out;
}

/// |actual - expected| <= ulps units in the last place of each expected element; same NaN, same infinities.
::testing::AssertionResult within_ulps(const AnyBuffer& actual, const AnyBuffer& expected, double ulps) {
  const double unit = actual.dtype() == Dtype::f32 ? 0x1p-23 : 0x1p-52;
  const double tiny = actual.dtype() == Dtype::f32 ? 0x1p-126 : 0x1p-1022;
  for (std::int64_t i = 0; i < actual.size(); ++i) {
    const double x = actual.get(i), y = expected.get(i);
    if ((std::isnan(x) && std::isnan(y)) || x == y) continue;
    if (std::abs(x - y) <= ulps * unit * std::max(std::abs(y), tiny)) continue;
    return ::testing::AssertionFailure() << "element " << i << " is " << x << ", expected " << y;
  }
  return ::testing::AssertionSuccess();
}

/// What the contract promises, in units in the last place. One rounding of the reference is part of it.
double allowed_ulps(UnaryOp op) {
  switch (op) {
    case UnaryOp::exp: case UnaryOp::log: case UnaryOp::sin: case UnaryOp::cos: return 2;
    case UnaryOp::tanh: case UnaryOp::erf: case UnaryOp::sigmoid: return 4;
    case UnaryOp::pow_scalar: return 2;
    case UnaryOp::rsqrt: return 2;  // two roundings, and the reference's
    default: return 0;              // correctly rounded operations
  }
}

TEST(Unary, EveryOpAndLayoutMatchesTheReference) {
  for (int code = 0; code < static_cast<int>(UnaryOp::logical_not); ++code)
    for (const Dtype dtype : {Dtype::f32, Dtype::f64})
      for (const Extents& extents : shapes())
        for (const Layout layout : kAllLayouts)
          for (const double alpha : {2.0, -0.7}) {
            SCOPED_TRACE("op " + std::to_string(code) + " " + name(dtype) + " " + name(layout));
            Unary p{.op = static_cast<UnaryOp>(code), .dtype = dtype, .extents = extents,
                    .in_strides = make_strides(extents, layout), .alpha = alpha};
            const AnyBuffer in = random_any(dtype, span_of(extents, p.in_strides), 17, true);
            const AnyBuffer expected = computed(ref_module(), p, in);
            for_each_cpu([&](const BackendModule& cpu) {
              ASSERT_TRUE(within_ulps(computed(cpu, p, in), expected, allowed_ulps(p.op)));
            });
            if (HasFatalFailure()) return;
          }
}

TEST(Unary, IntegersWrapAndMatchTheReference) {
  for (const UnaryOp op : kEveryNumber)
    for (const Dtype dtype : {Dtype::i64, Dtype::i32})
      for (const Extents& extents : shapes())
        for (const Layout layout : kAllLayouts) {
          Unary p{.op = op, .dtype = dtype, .extents = extents, .in_strides = make_strides(extents, layout),
                  .alpha = -3.9};
          const AnyBuffer in = random_any(dtype, span_of(extents, p.in_strides), 18, true);
          const AnyBuffer expected = computed(ref_module(), p, in);
          for_each_cpu([&](const BackendModule& cpu) { ASSERT_TRUE(computed(cpu, p, in).same(expected)); });
        }
}

/// All normal exponents and both signs of f32: where functions overflow, underflow and change their formula.
TEST(Unary, FloatFunctionsAreAccurateOverTheWholeRange) {
  constexpr std::int64_t n = 512 * 128;
  AnyBuffer in(Dtype::f32, n);
  std::mt19937 generator(5);
  for (std::int64_t i = 0; i < n; ++i) {
    // Three quarters lie between 2^-20 and 2^8, where the functions are not flat.
    const std::uint32_t random = static_cast<std::uint32_t>(generator());
    const std::uint32_t exponent = i % 4 == 0 ? static_cast<std::uint32_t>(1 + i / 4 % 254) : 107 + random % 28;
    in.set(i, static_cast<double>(std::bit_cast<float>((random & 0x807fffffu) | exponent << 23)));
  }
  std::int64_t place = 0;
  for (const double special : {std::nan(""), HUGE_VAL, -HUGE_VAL, 0.0, -0.0, 1.0, -1.0}) in.set(place++, special);
  const Extents extents = make_extents({n});
  for (int code = 0; code < static_cast<int>(UnaryOp::logical_not); ++code) {
    SCOPED_TRACE("op " + std::to_string(code));
    Unary p{.op = static_cast<UnaryOp>(code), .dtype = Dtype::f32, .extents = extents,
            .in_strides = contiguous_strides(extents), .alpha = 1.25};
    const AnyBuffer expected = computed(ref_module(), p, in);
    for_each_cpu([&](const BackendModule& cpu) {
      EXPECT_TRUE(within_ulps(computed(cpu, p, in), expected, allowed_ulps(p.op)));
    });
  }
}

TEST(Unary, LogicalNotNegatesBooleansOnly) {
  const Extents extents = make_extents({9});
  Unary p{.op = UnaryOp::logical_not, .dtype = Dtype::boolean, .extents = extents,
          .in_strides = contiguous_strides(extents)};
  const AnyBuffer in = random_any(Dtype::boolean, 9, 3);
  for_each_cpu([&](const BackendModule& cpu) {
    const AnyBuffer out = computed(cpu, p, in);
    for (int i = 0; i < 9; ++i) EXPECT_EQ(out.get(i), 1 - in.get(i));
    Unary wrong = p;
    wrong.dtype = Dtype::f32;
    EXPECT_EQ(run(cpu, wrong).code, StatusCode::unsupported);
    wrong.op = UnaryOp::exp;
    wrong.dtype = Dtype::i64;
    EXPECT_EQ(run(cpu, wrong).code, StatusCode::unsupported);
    wrong.op = UnaryOp::count_;
    EXPECT_EQ(run(cpu, wrong).code, StatusCode::invalid_argument);
  });
}

TEST(Unary, InPlaceAndEveryNumberOfThreadsGiveTheSameBits) {
  const Extents extents = make_extents({3, 33331});
  for (const UnaryOp op : {UnaryOp::mul_scalar, UnaryOp::exp, UnaryOp::erf, UnaryOp::tanh}) {
    Unary p{.op = op, .dtype = Dtype::f32, .extents = extents, .in_strides = contiguous_strides(extents), .alpha = 1.5};
    const AnyBuffer in = random_any(Dtype::f32, extents.count(), 21);
    for_each_cpu([&](const BackendModule& cpu) {
      const AnyBuffer expected = computed(cpu, p, in);
      for (const int threads : {1, 2, 4}) {
        ThreadPool pool(threads);
        AnyBuffer inout(Dtype::f32, extents.count());
        inout.assign(in);
        p.in = p.out = inout.data();
        ASSERT_TRUE(run_ok(cpu, p, pool.stream()));
        ASSERT_TRUE(inout.same(expected)) << threads;
      }
    });
  }
}

/// An element's bits must not depend on where it stands: vector body, tail or strided loop.
TEST(Unary, BitsDoNotDependOnThePlace) {
  const AnyBuffer in = random_any(Dtype::f32, 203, 22);
  for (int code = 0; code < static_cast<int>(UnaryOp::logical_not); ++code) {
    Unary whole{.op = static_cast<UnaryOp>(code), .dtype = Dtype::f32, .extents = make_extents({101}),
                .in_strides = {{2}}, .alpha = 0.3};
    for_each_cpu([&](const BackendModule& cpu) {
      const AnyBuffer strided = computed(cpu, whole, in);
      AnyBuffer dense(Dtype::f32, 101);
      for (int i = 0; i < 101; ++i) dense.set(i, in.get(2 * i));
      Unary contiguous = whole;
      contiguous.in_strides = {{1}};
      ASSERT_TRUE(computed(cpu, contiguous, dense).same(strided)) << code;
    });
  }
}

TEST(Binary, EveryOpDtypeAndPairOfLayoutsMatchesTheReference) {
  for (int code = 0; code < static_cast<int>(BinaryOp::count_); ++code)
    for (const Dtype dtype : kAllDtypes) {
      Binary p;
      p.op = static_cast<BinaryOp>(code);
      p.dtype = dtype;
      const bool logical = code >= static_cast<int>(BinaryOp::logical_and);
      const bool number = dtype == Dtype::f32 || dtype == Dtype::f64 || dtype == Dtype::i64 || dtype == Dtype::i32;
      const bool served = is_comparison(p.op) || (logical ? dtype == Dtype::boolean : number);
      for (const Extents& extents : shapes())
        for (const Layout a_layout : kAllLayouts)
          for (const Layout b_layout : kAllLayouts) {
            SCOPED_TRACE("op " + std::to_string(code) + " " + name(dtype) + " " + name(a_layout) + " " + name(b_layout));
            p.extents = extents;
            p.a_strides = make_strides(extents, a_layout);
            p.b_strides = make_strides(extents, b_layout);
            if (!served) {
              EXPECT_EQ(run(cpu_module(), p).code, StatusCode::unsupported);
              continue;
            }
            const AnyBuffer a = random_any(dtype, span_of(extents, p.a_strides), 31, true);
            const AnyBuffer b = random_any(dtype, span_of(extents, p.b_strides), 32, true);
            const AnyBuffer expected = computed(ref_module(), p, a, b);
            for_each_cpu([&](const BackendModule& cpu) { ASSERT_TRUE(computed(cpu, p, a, b).same(expected)); });
            if (HasFatalFailure()) return;
          }
    }
}

TEST(Binary, IntegerDivisionTruncatesAndNeverTraps) {
  const Extents extents = make_extents({5});
  const std::int32_t a[] = {7, -7, 5, INT32_MIN, INT32_MIN}, b[] = {2, 2, 0, -1, 0}, expected[] = {3, -3, 0, INT32_MIN, 0};
  for_each_cpu([&](const BackendModule& cpu) {
    Buffer<std::int32_t> out(5);
    const Strides strides = contiguous_strides(extents);
    ASSERT_TRUE(run_ok(cpu, Binary{.op = BinaryOp::div, .dtype = Dtype::i32, .extents = extents, .a_strides = strides,
                                   .b_strides = strides, .a = a, .b = b, .out = out.data()}));
    for (int i = 0; i < 5; ++i) EXPECT_EQ(out[i], expected[i]);
  });
}

TEST(Binary, NanWinsInMaximumAndMinimum) {
  const float a[] = {NAN, 1, NAN}, b[] = {1, NAN, NAN};
  const Extents extents = make_extents({3});
  const Strides strides = contiguous_strides(extents);
  for_each_cpu([&](const BackendModule& cpu) {
    for (const BinaryOp op : {BinaryOp::maximum, BinaryOp::minimum}) {
      Buffer<float> out(3);
      out.fill(0);
      ASSERT_TRUE(run_ok(cpu, Binary{.op = op, .dtype = Dtype::f32, .extents = extents, .a_strides = strides,
                                     .b_strides = strides, .a = a, .b = b, .out = out.data()}));
      for (int i = 0; i < 3; ++i) EXPECT_TRUE(std::isnan(out[i]));
    }
  });
}

TEST(Binary, LargeCallsInPlaceGiveTheSameBitsForEveryNumberOfThreads) {
  const Extents extents = make_extents({333, 301});
  Binary p{.op = BinaryOp::add, .dtype = Dtype::f32, .extents = extents, .a_strides = contiguous_strides(extents),
           .b_strides = {{0, 1}}};
  const AnyBuffer a = random_any(Dtype::f32, extents.count(), 41), b = random_any(Dtype::f32, 301, 42);
  const AnyBuffer expected = computed(ref_module(), p, a, b);
  for_each_cpu([&](const BackendModule& cpu) {
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      AnyBuffer inout(Dtype::f32, extents.count());
      inout.assign(a);
      p.a = p.out = inout.data();
      p.b = b.data();
      ASSERT_TRUE(run_ok(cpu, p, pool.stream()));
      ASSERT_TRUE(inout.same(expected)) << threads;
    }
  });
}

TEST(Where, EveryDtypeAndLayoutMatchesTheReference) {
  for (const Dtype dtype : kAllDtypes)
    for (const Extents& extents : shapes())
      for (const Layout condition_layout : kAllLayouts)
        for (const Layout a_layout : kAllLayouts)
          for (const Layout b_layout : kAllLayouts) {
            Where p{.dtype = dtype, .extents = extents, .condition_strides = make_strides(extents, condition_layout),
                    .a_strides = make_strides(extents, a_layout), .b_strides = make_strides(extents, b_layout)};
            const AnyBuffer condition = random_any(Dtype::boolean, span_of(extents, p.condition_strides), 51);
            const AnyBuffer a = random_any(dtype, span_of(extents, p.a_strides), 52, true);
            const AnyBuffer b = random_any(dtype, span_of(extents, p.b_strides), 53, true);
            const AnyBuffer expected = computed(ref_module(), p, condition, a, b);
            for_each_cpu([&](const BackendModule& cpu) {
              ASSERT_TRUE(computed(cpu, p, condition, a, b).same(expected)) << name(dtype);
            });
            if (HasFatalFailure()) return;
          }
}

}  // namespace
}  // namespace sinter::kernels
