#include "core/shape.h"

#include <gtest/gtest.h>

#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using testing::expect_error;
using testing::expect_usage_error;

TEST(Shape, CountsAndNames) {
  EXPECT_EQ(Shape{}.numel(), 1);
  EXPECT_EQ(Shape{}.str(), "[]");
  EXPECT_EQ((Shape{2, 0, 3}).numel(), 0);
  EXPECT_EQ((Shape{2, 3}).str(), "[2, 3]");
  EXPECT_EQ((Shape{2, 3}).at(-1), 3);
  EXPECT_EQ((Shape{2, 3}).dimension(-2), 0);
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));
  expect_usage_error([] { Shape{}.at(0); }, "dimension 0 is out of range for shape [], which has rank 0");
  expect_usage_error([] { (Shape{2}).dimension(-2); }, "dimension -2 is out of range");
  expect_usage_error([] { (Shape{INT64_MAX, 2}).numel(); }, "more than 2^63 elements");
}

TEST(Shape, GrowsAndShrinks) {
  Shape shape{2, 3};
  shape.insert(1, 7);
  EXPECT_EQ(shape, (Shape{2, 7, 3}));
  shape.erase(0);
  EXPECT_EQ(shape, (Shape{7, 3}));
  shape.push_back(1);
  EXPECT_EQ(shape, (Shape{7, 3, 1}));
  expect_error([] { Shape({1, 2, 3, 4, 5, 6, 7}); }, ErrorCode::unsupported, "at most 6 dimensions");
}

TEST(Shape, ContiguousStrides) {
  EXPECT_EQ(contiguous_strides({2, 3, 4}), (Shape{12, 4, 1}));
  EXPECT_EQ(contiguous_strides({}), Shape{});
}

TEST(Shape, Broadcast) {
  EXPECT_EQ(broadcast({2, 1, 3}, {4, 1}, "op"), (Shape{2, 4, 3}));
  EXPECT_EQ(broadcast({}, {2}, "op"), (Shape{2}));
  EXPECT_EQ(broadcast({0}, {1}, "op"), (Shape{0}));
  expect_usage_error([] { broadcast({0}, {2}, "op"); }, "op: shapes [0] and [2] cannot be broadcast");
  expect_usage_error([] { broadcast({2, 3}, {2}, "add"); }, "add: shapes [2, 3] and [2] cannot be broadcast");
}

}  // namespace
}  // namespace sinter
