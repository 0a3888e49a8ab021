#include "kernels/copy.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "tests/kernels/cuda/device_case.h"
#include "tests/kernels/cuda/device_under_test.h"
#include "tests/kernels/layouts.h"

namespace sinter::kernels::testing {
namespace {

/// Conversions round once, as the reference does.
constexpr Tolerance kSameValues = {.ulps = 0};

/// One dtype of each size.
constexpr Dtype kSizes[] = {Dtype::u8, Dtype::bf16, Dtype::f32, Dtype::i64};

Strides strides(std::initializer_list<std::int64_t> steps) {
  Strides s;
  std::copy(steps.begin(), steps.end(), s.step);
  return s;
}

/// A copy whose dst holds other elements before, also between those that are written.
struct CopyCase : DeviceCase<Copy> {
  explicit CopyCase(const Copy& p, std::size_t src_misalignment = 0, std::size_t dst_misalignment = 0)
      : DeviceCase<Copy>(p) {
    input_elements(params.src, p.src_dtype, any_elements(p.src_dtype, span_of(p.extents, p.src_strides), 7));
    misalign(src_misalignment);
    in_out_elements(params.dst, p.dst_dtype, any_elements(p.dst_dtype, span_of(p.extents, p.dst_strides), 8),
                    kSameValues);
    misalign(dst_misalignment);
  }
};

Copy contiguous_copy(const Extents& extents, Dtype from, Dtype to) {
  return {.extents = extents, .src_strides = contiguous_strides(extents), .dst_strides = contiguous_strides(extents),
          .src_dtype = from, .dst_dtype = to};
}

TEST(CopyOnDevice, EveryPairOfDtypes) {
  for (const Dtype from : kAllDtypes)
    for (const Dtype to : kAllDtypes) {
      SCOPED_TRACE(std::string(name(from)) + " to " + name(to));
      CopyCase(contiguous_copy(make_extents({77}), from, to)).check_with("vectors");
      const Extents extents = make_extents({9, 11, 3});
      Copy p = contiguous_copy(extents, from, to);
      p.src_strides = make_strides(extents, Layout::transposed);
      CopyCase(p).check_with("units");
      p.dst_strides = make_strides(extents, Layout::sliced);
      CopyCase(p).check_with("by_element");
    }
}

TEST(CopyOnDevice, EveryLayoutAndRank) {
  const Extents shapes[] = {
      make_extents({}),           make_extents({1}),             make_extents({7}),
      make_extents({0}),          make_extents({3, 0, 2}),       make_extents({33, 65}),
      make_extents({1, 40}),      make_extents({3, 5, 7}),       make_extents({2, 3, 1, 5}),
      make_extents({2, 3, 2, 2}), make_extents({2, 3, 2, 2, 3}), make_extents({2, 2, 3, 2, 1, 4}),
  };
  for (const Extents& extents : shapes)
    for (const Dtype dtype : kSizes)
      for (const Layout src : kAllLayouts)
        for (const Layout dst : kWritableLayouts) {
          SCOPED_TRACE(std::string(name(dtype)) + " " + name(src) + " to " + name(dst) + ", rank " +
                       std::to_string(extents.rank) + ", " + std::to_string(extents.count()) + " elements");
          Copy p = contiguous_copy(extents, dtype, dtype);
          p.src_strides = make_strides(extents, src);
          p.dst_strides = make_strides(extents, dst);
          CopyCase(p).check();
        }
}

TEST(CopyOnDevice, ContiguousOnesOfEveryLengthFromEveryPlace) {
  for (const Dtype dtype : kSizes)
    for (const std::int64_t n : {1, 2, 3, 15, 16, 17, 31, 33, 1030})
      for (const std::size_t place : {0, 1, 3, 7}) {
        SCOPED_TRACE(std::string(name(dtype)) + ", " + std::to_string(n) + " from " + std::to_string(place));
        const Copy p = contiguous_copy(make_extents({n}), dtype, dtype);
        CopyCase(p, place * size_of(dtype), place * size_of(dtype)).check_with("vectors");
        CopyCase(p, place * size_of(dtype), 0).check();
        CopyCase(p, 0, place * size_of(dtype)).check();
      }
  for (const std::int64_t n : {1, 3, 4, 5, 2051})
    for (const std::size_t place : {0, 1, 3}) {
      SCOPED_TRACE(std::to_string(n) + " casts from " + std::to_string(place));
      CopyCase(contiguous_copy(make_extents({n}), Dtype::f32, Dtype::f16), place * 4, place * 2).check_with("vectors");
      CopyCase(contiguous_copy(make_extents({n}), Dtype::bf16, Dtype::f32), place * 2, place * 4).check_with("vectors");
      CopyCase(contiguous_copy(make_extents({n}), Dtype::f32, Dtype::bf16), 0, place * 2).check();
    }
}

TEST(CopyOnDevice, RowsThatUnitsOfEverySizeDivide) {
  for (const Dtype dtype : kSizes)
    for (const std::int64_t row : {1, 2, 4, 6, 8, 16, 24, 33, 48})
      for (const std::int64_t gap : {0, 1, 2, 4, 8, 16})
        for (const std::size_t place : {0, 1, 2, 4, 8}) {
          SCOPED_TRACE(std::string(name(dtype)) + " row " + std::to_string(row) + " gap " + std::to_string(gap) +
                       " from " + std::to_string(place));
          Copy p = contiguous_copy(make_extents({3, row}), dtype, dtype);
          p.src_strides = strides({row + gap, 1});
          CopyCase(p, place * size_of(dtype), 0).check_with("units");
        }
}

TEST(CopyOnDevice, TransposesOfTilesAndAroundThem) {
  for (const Dtype dtype : kSizes)
    for (const auto& [rows, cols] : {std::pair{8, 8}, {31, 33}, {32, 32}, {33, 31}, {70, 100}}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + std::to_string(rows) + " x " + std::to_string(cols));
      Copy p = contiguous_copy(make_extents({rows, cols}), dtype, dtype);
      p.src_strides = strides({1, rows});
      CopyCase(p).check_with("tiles");
    }
  // [2, 9, 40] from [2, 40, 9] and [3, 2, 33, 10] from [10, 3, 33, 2] in memory, rows with gaps.
  for (const Dtype dtype : {Dtype::bf16, Dtype::f32}) {
    Copy p = contiguous_copy(make_extents({2, 9, 40}), dtype, dtype);
    p.src_strides = strides({40 * 9, 1, 9});
    CopyCase(p).check_with("tiles");
    p = contiguous_copy(make_extents({3, 2, 33, 10}), dtype, dtype);
    p.src_strides = strides({33 * 2 + 5, 33, 1, 3 * 71});
    p.dst_strides = strides({2 * 33 * 12, 33 * 12, 12, 1});
    CopyCase(p).check_with("tiles");
  }
}

TEST(CopyOnDevice, TheBestVariantThatCanIsSelected) {
  alignas(16) char memory[64];
  Copy p = contiguous_copy(make_extents({40, 40}), Dtype::f32, Dtype::f32);
  p.src = p.dst = memory;
  EXPECT_EQ(selected_variant(p), "vectors");
  p.src = memory + 4;
  EXPECT_EQ(selected_variant(p), "units");
  p.src_strides = strides({1, 40});
  EXPECT_EQ(selected_variant(p), "tiles");
  p.dst_dtype = Dtype::f16;
  EXPECT_EQ(selected_variant(p), "units");
  p.src_strides = {};
  EXPECT_EQ(selected_variant(p), "units");
  p.extents = make_extents({std::int64_t{1} << 16, std::int64_t{1} << 15});
  p.dst_strides = contiguous_strides(p.extents);
  EXPECT_EQ(selected_variant(p), "by_element");
  EXPECT_EQ(run(device_under_test(), p, {}, 1).code, StatusCode::unsupported);
}

struct FillCase : DeviceCase<Fill> {
  explicit FillCase(const Fill& p, std::size_t misalignment = 0) : DeviceCase<Fill>(p) {
    in_out_elements(params.dst, p.dtype, any_elements(p.dtype, span_of(p.extents, p.dst_strides), 5), kSameValues);
    misalign(misalignment);
  }
};

TEST(FillOnDevice, EveryDtypeValueAndLayout) {
  for (const Dtype dtype : kAllDtypes)
    for (const double value : {0.0, 1.0, -2.3, 1e9, static_cast<double>(NAN)})
      for (const Extents& extents : {make_extents({}), make_extents({0}), make_extents({7}), make_extents({33, 65}),
                                     make_extents({2, 2, 3, 2, 3, 4})})
        for (const Layout layout : kWritableLayouts) {
          SCOPED_TRACE(std::string(name(dtype)) + " " + name(layout) + " " + std::to_string(extents.count()));
          FillCase({.extents = extents, .dst_strides = make_strides(extents, layout), .dtype = dtype, .value = value,
                    .integer = value == value ? static_cast<std::int64_t>(value) : 300})
              .check();
        }
}

TEST(FillOnDevice, RowsOfEveryUnitFromEveryPlace) {
  for (const Dtype dtype : kSizes)
    for (const std::int64_t row : {1, 2, 4, 8, 16, 17, 35})
      for (const std::size_t place : {0, 1, 2, 4, 8}) {
        SCOPED_TRACE(std::string(name(dtype)) + " row " + std::to_string(row) + " from " + std::to_string(place));
        Fill p = {.extents = make_extents({row}), .dst_strides = strides({1}), .dtype = dtype, .value = 3.25,
                  .integer = 0x1234567890abcdef};
        FillCase(p, place * size_of(dtype)).check_with("vectors");
        p.extents = make_extents({3, row});
        p.dst_strides = strides({row + 16, 1});
        FillCase(p, place * size_of(dtype)).check_with("units");
      }
}

TEST(FillOnDevice, TheBestVariantThatCanIsSelected) {
  Fill p = {.extents = make_extents({5, 8}), .dst_strides = strides({8, 1})};
  EXPECT_EQ(selected_variant(p), "vectors");
  p.dst_strides = strides({9, 1});
  EXPECT_EQ(selected_variant(p), "units");
  p.extents = make_extents({std::int64_t{1} << 20, std::int64_t{1} << 12});
  p.dst_strides = strides({std::int64_t{1} << 13, 2});
  EXPECT_EQ(selected_variant(p), "by_element");
  EXPECT_EQ(run(device_under_test(), p, {}, 1).code, StatusCode::unsupported);
}

}  // namespace
}  // namespace sinter::kernels::testing
