#include "data/column.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace sinter::data {
namespace {

Lists three_lists() {
  Lists lists;
  lists.push_back(std::vector<std::int32_t>{1, 2, 3});
  lists.push_back({});
  lists.push_back(std::vector<std::int32_t>{4});
  return lists;
}

TEST(Column, TakesRowsOfEveryKind) {
  const std::vector<std::int64_t> rows = {2, 0, 2};
  EXPECT_EQ(Column(Column::Texts{"a", "b", "c"}).take(rows).texts(), (Column::Texts{"c", "a", "c"}));
  EXPECT_EQ(Column(Column::Integers{7, 8, 9}).take(rows).integers(), (Column::Integers{9, 7, 9}));
  EXPECT_EQ(Column(Column::Reals{.5, 1, 2}).take(rows).reals(), (Column::Reals{2, .5, 2}));
  const Column lists = Column(three_lists()).take(rows);
  EXPECT_EQ(lists.lists().values, (std::vector<std::int32_t>{4, 1, 2, 3, 4}));
  EXPECT_EQ(lists.lists().offsets, (std::vector<std::int64_t>{0, 1, 4, 5}));
}

TEST(Column, AppendsRowsOfItsKind) {
  Column lists(three_lists());
  lists.append(three_lists());
  EXPECT_EQ(lists.size(), 6);
  EXPECT_TRUE(lists.lists()[4].empty());
  lists.append(lists);
  EXPECT_EQ(lists.size(), 12);
  Column texts(Column::Texts{"a"});
  EXPECT_THROW(texts.append(lists), Error);
  EXPECT_EQ(texts.size(), 1);
}

TEST(Column, RefusesWhatItIsNot) {
  const Column labels(Column::Integers{1, 0});
  EXPECT_STREQ(labels.kind(), "integer");
  EXPECT_THROW(labels.texts(), Error);
  EXPECT_THROW(labels.take(std::vector<std::int64_t>{2}), Error);
  EXPECT_THROW(labels.take(std::vector<std::int64_t>{-1}), Error);
}

}  // namespace
}  // namespace sinter::data
