#include "kernels/reduce.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/layouts.h"

namespace sinter::kernels::testing {
namespace {

constexpr Dtype kNumbers[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32};

Strides strides(std::initializer_list<std::int64_t> steps) {
  Strides s;
  std::copy(steps.begin(), steps.end(), s.step);
  return s;
}

/// Inputs and outputs of a call.
struct Counts {
  std::int64_t inputs = 1, outputs = 1;

  explicit Counts(const Reduce& p) {
    for (int d = 0; d < p.extents.rank; ++d) ((p.reduced >> d & 1u) != 0 ? inputs : outputs) *= p.extents.size[d];
  }
};

/// Sums: additions behind one output, each wrong by one rounding of at most the sum of magnitudes, which is below the
/// number of inputs. by_block has the longest path, n / 128 + 8; rows n / 64 inside 4096 and 13, then by_block; columns
/// 32 + 8, then by_block.
Tolerance tolerance_of(const Reduce& p, std::int64_t inputs) {
  if (p.op != ReduceOp::sum) return {.ulps = 0};
  return {.ulps = static_cast<double>(inputs) / 128 + 80, .floor = static_cast<double>(inputs)};
}

struct ReduceCase : DeviceCase<Reduce> {
  explicit ReduceCase(const Reduce& p, bool specials = false, std::size_t misalignment = 0) : DeviceCase<Reduce>(p) {
    const Counts counts(p);
    const std::int64_t span = span_of(p.extents, p.in_strides);
    if (is_floating(p.dtype) && !specials)
      input(params.in, p.dtype, normal_values(span, 3));
    else
      input_elements(params.in, p.dtype, any_elements(p.dtype, span, 3));
    misalign(misalignment);
    output(params.out, p.dtype == Dtype::boolean ? Dtype::i64 : p.dtype, counts.outputs,
           tolerance_of(p, counts.inputs));
    workspace(params.workspace);
  }
};

Reduce reduce(ReduceOp op, Dtype dtype, const Extents& extents, std::uint32_t reduced) {
  return {.op = op, .dtype = dtype, .extents = extents, .in_strides = contiguous_strides(extents), .reduced = reduced};
}

constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::max, ReduceOp::min};

TEST(ReduceOnDevice, EveryOpAndDtype) {
  for (const Dtype dtype : kNumbers)
    for (const ReduceOp op : kOps)
      for (const Extents& extents : {make_extents({19, 34}), make_extents({1, 1})}) {
        SCOPED_TRACE(std::string(name(dtype)) + ", op " + std::to_string(static_cast<int>(op)) + ", " +
                     std::to_string(extents.count()));
        ReduceCase(reduce(op, dtype, extents, 2)).check_with("rows");
        ReduceCase(reduce(op, dtype, extents, 1)).check_with("columns");
        ReduceCase(reduce(op, dtype, extents, 3)).check_with("rows");
        if (op != ReduceOp::sum) {   // with NaN and infinities, whose sums have no tolerance
          ReduceCase(reduce(op, dtype, extents, 2), true).check();
          ReduceCase(reduce(op, dtype, extents, 1), true).check();
        }
      }
  for (const std::uint32_t reduced : {0u, 1u, 2u, 3u})
    ReduceCase(reduce(ReduceOp::sum, Dtype::boolean, make_extents({9, 70}), reduced)).check();
}

TEST(ReduceOnDevice, NanWinsWhereverItStands) {
  for (const std::int64_t at : {0, 1, 31, 33, 127, 130, 299})
    for (const ReduceOp op : {ReduceOp::max, ReduceOp::min})
      for (const std::uint32_t reduced : {1u, 2u}) {
        SCOPED_TRACE(at);
        std::vector<double> x = normal_values(300 * 2, 1);
        x[static_cast<std::size_t>(reduced == 2 ? at : at * 2)] = NAN;
        DeviceCase<Reduce> c(reduce(op, Dtype::f32, reduced == 2 ? make_extents({2, 300}) : make_extents({300, 2}),
                                    reduced));
        c.input(c.params.in, Dtype::f32, x);
        c.output(c.params.out, Dtype::f32, 2, {.ulps = 0});
        c.workspace(c.params.workspace);
        c.check();
      }
}

TEST(ReduceOnDevice, EverySetOfDimensionsInEveryLayout) {
  for (const Extents& extents : {make_extents({}), make_extents({7}), make_extents({2, 3, 1, 5}),
                                 make_extents({3, 2, 9}), make_extents({2, 1, 2, 2, 1, 3})})
    for (std::uint32_t reduced = 0; reduced < 1u << extents.rank; ++reduced)
      for (const Layout layout : kAllLayouts) {
        SCOPED_TRACE(std::string(name(layout)) + ", rank " + std::to_string(extents.rank) + ", dimensions " +
                     std::to_string(reduced));
        Reduce p = reduce(ReduceOp::sum, Dtype::f32, extents, reduced);
        p.in_strides = make_strides(extents, layout);
        ReduceCase(p).check();
      }
}

TEST(ReduceOnDevice, NothingToReduce) {
  for (const std::uint32_t reduced : {0u, 1u, 2u, 3u, 4u, 6u, 7u}) {
    ReduceCase(reduce(ReduceOp::sum, Dtype::f32, make_extents({3, 0, 2}), reduced)).check();
    ReduceCase(reduce(ReduceOp::sum, Dtype::i64, make_extents({0, 2, 0}), reduced)).check();
  }
  ReduceCase(reduce(ReduceOp::max, Dtype::f32, make_extents({0, 4}), 2)).check();
  expect_refused(reduce(ReduceOp::max, Dtype::f32, make_extents({3, 0}), 2), "at least one element");
}

TEST(ReduceOnDevice, RowsAroundEveryVectorAndChunk) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::f64, Dtype::i32})
    for (const std::int64_t cols : {1, 2, 3, 4, 7, 8, 9, 127, 128, 129, 257, 770, 4095, 4096, 4097, 8200})
      for (const std::size_t place : {0, 1}) {
        SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(cols) + " from " + std::to_string(place));
        ReduceCase(reduce(ReduceOp::sum, dtype, make_extents({3, cols}), 2), false, place * size_of(dtype))
            .check_with("rows");
      }
  ReduceCase(reduce(ReduceOp::max, Dtype::bf16, make_extents({10000}), 1)).check_with("rows");
  Reduce p = reduce(ReduceOp::sum, Dtype::f32, make_extents({9, 5, 24}), 4);   // rows with gaps, 45 of them
  p.in_strides = strides({200, 32, 1});
  ReduceCase(p).check_with("rows");
  p.in_strides = strides({199, 32, 1});
  ReduceCase(p).check_with("rows");
}

TEST(ReduceOnDevice, ColumnsAroundEveryTileAndChunk) {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16})
    for (const std::int64_t rows : {1, 7, 8, 9, 255, 256, 257, 600})
      for (const std::int64_t cols : {1, 31, 33}) {
        SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(rows) + " x " + std::to_string(cols));
        ReduceCase(reduce(ReduceOp::sum, dtype, make_extents({rows, cols}), 1)).check_with("columns");
      }
  Reduce p = reduce(ReduceOp::min, Dtype::f32, make_extents({3, 20, 4, 40}), 0b0110);   // 80 inputs in two dimensions
  p.in_strides = strides({100, 1000, 300, 1});
  ReduceCase(p).check_with("columns");
  p = reduce(ReduceOp::sum, Dtype::f32, make_extents({20, 3, 20, 40}), 0b0101);   // two chunks of 400
  ReduceCase(p).check_with("columns");
}

TEST(ReduceOnDevice, TheBestVariantThatCanIsSelected) {
  Reduce p = reduce(ReduceOp::sum, Dtype::f32, make_extents({64, 48}), 2);
  EXPECT_EQ(selected_variant(p), "rows");
  p.reduced = 3;
  EXPECT_EQ(selected_variant(p), "rows");
  p.reduced = 1;
  EXPECT_EQ(selected_variant(p), "columns");
  p.extents = make_extents({64, 7});   // of rows of 48
  EXPECT_EQ(selected_variant(p), "by_block");
  p.in_strides = strides({96, 2});
  p.extents = make_extents({64, 48});
  EXPECT_EQ(selected_variant(p), "by_block");
}

TEST(ReduceOnDevice, DtypesThatAnOpDoesNotKnowAreRefused) {
  expect_refused(Reduce{.dtype = Dtype::u8}, "no such dtype");
  expect_refused(Reduce{.op = ReduceOp::max, .dtype = Dtype::boolean}, "no such dtype");
  expect_refused(ArgReduce{.dtype = Dtype::boolean}, "no such dtype");
}

// --- ArgReduce ---

TEST(ArgReduceOnDevice, MatchesReference) {
  for (const Dtype dtype : kNumbers)
    for (const auto& [outer, n, inner] : {std::tuple<int, int, int>{0, 5, 3}, {1, 1, 1}, {3, 2, 1}, {5, 31, 1},
                                          {9, 33, 1}, {2, 700, 1}, {1, 5, 300}, {3, 40, 9}, {2, 0, 0}}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(outer) + " " + std::to_string(n) + " " +
                   std::to_string(inner));
      for (const bool specials : {false, true}) {   // few values: the first among equals; else NaN, the first of them
        DeviceCase<ArgReduce> c({.dtype = dtype, .outer = outer, .n = n, .inner = inner});
        if (specials)
          c.input_elements(c.params.in, dtype, any_elements(dtype, c.params.outer * c.params.n * c.params.inner, 2));
        else
          c.input(c.params.in, dtype, whole_values(c.params.outer * c.params.n * c.params.inner, -2, 3, 1));
        c.output(c.params.out, Dtype::i64, c.params.outer * c.params.inner, {.ulps = 0});
        c.check();
      }
    }
}

TEST(ArgReduceOnDevice, TheBestVariantIsSelected) {
  EXPECT_EQ(selected_variant(ArgReduce{.outer = 4, .n = 9, .inner = 1}), "by_warp");
  EXPECT_EQ(selected_variant(ArgReduce{.outer = 4, .n = 9, .inner = 64}), "by_thread");
}

}  // namespace
}  // namespace sinter::kernels::testing
