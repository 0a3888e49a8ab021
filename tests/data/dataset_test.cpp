#include "data/dataset.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/core/expect_error.h"

namespace sinter::data {
namespace {

using testing::refusal;
using I64 = std::vector<std::int64_t>;
using Names = std::vector<std::string>;

Dataset small() {
  return Dataset({{"text", Column::Texts{"c", "a", "b", "a"}}, {"label", Column::Integers{1, 0, -1, 1}}},
                 {{"label", {{"negative", "positive"}}}});
}

Dataset numbers(std::int64_t size) {
  Column::Integers values;
  for (std::int64_t i = 0; i < size; ++i) values.push_back(i);
  return Dataset({{"n", std::move(values)}});
}

TEST(Dataset, NamesColumnsAndClasses) {
  const Dataset d = small();
  EXPECT_EQ(d.size(), 4);
  EXPECT_EQ(d.column_names(), (Names{"label", "text"}));
  EXPECT_EQ(d.column("label").integers(), (I64{1, 0, -1, 1}));
  EXPECT_EQ(d.features().at("label").names, (Names{"negative", "positive"}));
  EXPECT_EQ(d[2].text("text"), "b");
  EXPECT_EQ(d[2].integer("label"), -1);
  EXPECT_EQ(Dataset().size(), 0);
  EXPECT_TRUE(Dataset().column_names().empty());
}

TEST(Dataset, CopiesShareTheirColumns) {
  const Dataset d = small(), copy = d, less = d.remove_columns({"text"}), other = d.rename_column("text", "sentence");
  EXPECT_EQ(&copy.column("label"), &d.column("label"));
  EXPECT_EQ(&less.column("label"), &d.column("label"));
  EXPECT_EQ(&other.column("sentence"), &d.column("text"));
}

TEST(Dataset, RenameAndRemove) {
  const Dataset renamed = small().rename_column("label", "labels");
  EXPECT_EQ(renamed.column_names(), (Names{"labels", "text"}));
  EXPECT_TRUE(renamed.features().contains("labels"));
  EXPECT_FALSE(renamed.features().contains("label"));
  EXPECT_TRUE(small().remove_columns({"label"}).features().empty());
  EXPECT_EQ(small().remove_columns({"label", "text"}).size(), 0);
}

TEST(Dataset, SelectTakeFilterSort) {
  const Dataset d = small();
  EXPECT_EQ(d.select({3, 0, 3}).column("text").texts(), (Names{"a", "c", "a"}));
  EXPECT_EQ(d.select({3, 0}).features().at("label").names.size(), 2u);
  EXPECT_EQ(d.take(2).column("text").texts(), (Names{"c", "a"}));
  EXPECT_EQ(d.take(9).size(), 4);
  EXPECT_EQ(d.take(0).column_names(), d.column_names());
  const Dataset positive = d.filter([](const Row& row) { return row.integer("label") == 1; });
  EXPECT_EQ(positive.column("text").texts(), (Names{"c", "a"}));
  const Dataset none = d.filter([](const Row&) { return false; });
  EXPECT_EQ(none.size(), 0);
  EXPECT_EQ(none.column_names(), d.column_names());
  EXPECT_EQ(d.sort("text").column("label").integers(), (I64{0, 1, -1, 1}));   // equal texts stay in their order
  EXPECT_EQ(d.sort("text", true).column("label").integers(), (I64{1, -1, 0, 1}));
  EXPECT_EQ(d.sort("label").column("text").texts(), (Names{"b", "a", "c", "a"}));
}

TEST(Dataset, ShuffleIsAFunctionOfTheSeed) {
  const Dataset d = numbers(100);
  const I64 order = d.shuffle(7).column("n").integers();
  EXPECT_EQ(d.shuffle(7).column("n").integers(), order);
  EXPECT_NE(d.shuffle(8).column("n").integers(), order);
  EXPECT_NE(order, d.column("n").integers());
  EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), 100u);
  // Part of what users rely on when they publish a seed.
  EXPECT_EQ(numbers(6).shuffle(42).column("n").integers(), (I64{2, 4, 1, 0, 5, 3}));
}

TEST(Dataset, TrainTestSplit) {
  const Dataset d = numbers(10);
  const struct {
    SplitOptions options;
    std::int64_t train, test;
  } table[] = {{{}, 7, 3}, {{.test_size = 0.1}, 9, 1}, {{.test_size = 0.91}, 0, 0}, {{.test_size = 4}, 6, 4},
               {{.test_size = 0.01}, 9, 1}, {{.test_size = 9}, 1, 9}};
  for (const auto& row : table) {
    if (row.train == 0) {
      EXPECT_NE(refusal([&] { d.train_test_split(row.options); }), "accepted");
      continue;
    }
    const DatasetDict split = d.train_test_split(row.options);
    EXPECT_EQ(split["train"].size(), row.train);
    EXPECT_EQ(split["test"].size(), row.test);
    std::set<std::int64_t> all;
    for (const auto& [name, part] : split)
      all.insert(part.column("n").integers().begin(), part.column("n").integers().end());
    EXPECT_EQ(all.size(), 10u);
  }
  const DatasetDict plain = d.train_test_split({.test_size = 3, .shuffle = false});
  EXPECT_EQ(plain["train"].column("n").integers(), (I64{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(plain["test"].column("n").integers(), (I64{7, 8, 9}));
  const auto test = [&](std::uint64_t seed) -> I64 {
    return d.train_test_split({.seed = seed})["test"].column("n").integers();
  };
  EXPECT_EQ(test(1), test(1));
  EXPECT_NE(test(1), test(2));
}

TEST(Dataset, MapAddsAndReplacesColumns) {
  const Dataset d = small();
  std::vector<std::int64_t> sizes;
  const Dataset mapped = d.map(
      [&](const Batch& b) -> Columns {
        sizes.push_back(b.size());
        Column::Integers lengths;
        Column::Texts doubled;
        Lists lists;
        for (const std::string& text : b.text("text")) {
          lengths.push_back(static_cast<std::int64_t>(text.size()));
          doubled.push_back(text + text);
          lists.push_back(std::vector<std::int32_t>(text.size(), 7));
        }
        return {{"length", lengths}, {"text", doubled}, {"ids", lists}};
      },
      {.batch_size = 3});
  EXPECT_EQ(sizes, (I64{3, 1}));
  EXPECT_EQ(mapped.column_names(), (Names{"ids", "label", "length", "text"}));
  EXPECT_EQ(mapped.column("text").texts(), (Names{"cc", "aa", "bb", "aa"}));
  EXPECT_EQ(mapped.column("length").integers(), (I64{1, 1, 1, 1}));
  EXPECT_EQ(mapped[3].list("ids").size(), 1u);
  EXPECT_EQ(&mapped.column("label"), &d.column("label"));
  EXPECT_EQ(mapped.features().size(), 1u);
  EXPECT_EQ(d.column("text").texts()[0], "c");

  const auto labels = [](const Batch& b) -> Columns {
    return {{"label", Column::Integers(b.integers("label").begin(), b.integers("label").end())}};
  };
  EXPECT_TRUE(d.map(labels).features().empty());   // whether the classes are still the same, only the caller knows
  EXPECT_EQ(d.map(labels, {.remove_columns = {"text", "label"}}).column_names(), (Names{"label"}));
  EXPECT_EQ(d.map([](const Batch&) { return Columns{}; }).column_names(), d.column_names());
}

TEST(Dataset, MapGivesTheRowsOfABatch) {
  const Dataset d = numbers(10).map([](const Batch& b) -> Columns {
    Column::Reals halves;
    Lists twice;
    for (std::int64_t i = 0; i < b.size(); ++i) {
      halves.push_back(static_cast<double>(b[i].integer("n")) / 2);
      const auto n = static_cast<std::int32_t>(b.integers("n")[static_cast<std::size_t>(i)]);
      twice.push_back(std::vector<std::int32_t>{n, n});
    }
    return {{"half", halves}, {"twice", twice}};
  });
  const Batch b(d, 4, 3);
  EXPECT_EQ(b.reals("half")[1], 2.5);
  EXPECT_EQ(b.lists("twice").size(), 3);
  EXPECT_EQ(b.lists("twice")[2][0], 6);
  EXPECT_EQ(b[0].real("half"), 2);
  EXPECT_EQ(refusal([&] { Batch(d, 8, 3); }), "rows 8 to 10 were asked for in a data set of 10");
  EXPECT_EQ(refusal([&] { b[3]; }), "row 3 was asked for in a batch of 3 rows");
}

TEST(Dataset, AnEmptySetIsMappedOnceForItsColumns) {
  int calls = 0;
  const Dataset mapped = small().take(0).map([&](const Batch& b) -> Columns {
    ++calls;
    EXPECT_EQ(b.size(), 0);
    EXPECT_TRUE(b.text("text").empty());
    return {{"ids", Lists()}};
  });
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(mapped.column_names(), (Names{"ids", "label", "text"}));
}

TEST(Dataset, ThreadsNeverChangeAMap) {
  const Dataset d = numbers(1000);
  const auto square = [](const Batch& b) -> Columns {
    Column::Integers values;
    for (const std::int64_t n : b.integers("n")) values.push_back(n * n);
    return {{"square", values}};
  };
  const I64 expected = d.map(square).column("square").integers();
  EXPECT_EQ(expected[999], 998001);
  for (const int threads : {2, 5, 200})
    for (const std::int64_t batch : {1, 7, 1000, 5000})
      EXPECT_EQ(d.map(square, {.batch_size = batch, .num_threads = threads}).column("square").integers(), expected);
}

TEST(Dataset, TheFirstFailureOfAMapIsThrown) {
  const Dataset d = numbers(1000);
  for (const int threads : {1, 4})
    for (int round = 0; round < 20; ++round)
      EXPECT_EQ(refusal([&] {
                  d.map(
                      [](const Batch& b) -> Columns {
                        if (b.integers("n")[0] >= 300) fail(ErrorCode::usage, "row ", b.integers("n")[0]);
                        return {};
                      },
                      {.batch_size = 10, .num_threads = threads});
                }),
                "row 300");
}

TEST(Dataset, ErrorsNameTheColumnAndThoseThatExist) {
  const Dataset d = small();
  const auto map = [&](const Dataset::MapFunction& function) {
    return refusal([&] { d.map(function, {.batch_size = 3}); });
  };
  const std::string missing = "the data set has no column \"sentense\"; its columns: label, text";
  EXPECT_EQ(refusal([&] { d.column("sentense"); }), missing);
  EXPECT_EQ(refusal([&] { d.rename_column("sentense", "x"); }), missing);
  EXPECT_EQ(refusal([&] { d.remove_columns({"sentense"}); }), missing);
  EXPECT_EQ(refusal([&] { d.sort("sentense"); }), missing);
  EXPECT_EQ(refusal([&] { d.map([](const Batch&) { return Columns{}; }, {.remove_columns = {"sentense"}}); }), missing);
  EXPECT_EQ(map([](const Batch& b) -> Columns { return {{"x", b.lists("sentense")}}; }), missing);
  EXPECT_EQ(map([](const Batch& b) -> Columns { return {{"x", b.lists("text")}}; }),
            "column \"text\": the column holds values of the kind text, not list");
  EXPECT_EQ(map([](const Batch&) -> Columns { return {{"x", Column::Integers{1, 2}}}; }),
            "map's function returned 2 values of \"x\" for a batch of 3 rows; it must return one for each row");
  EXPECT_EQ(map([](const Batch& b) -> Columns {
              return {{b.size() == 3 ? "x" : "y", Column::Integers(static_cast<std::size_t>(b.size()))}};
            }),
            "map's function returned the columns x for the first batch and y for another; they must be the same for "
            "all");
  EXPECT_EQ(map([](const Batch& b) -> Columns {
              if (b.size() == 3) return {{"x", Column::Integers(3)}};
              return {{"x", Column::Reals(1)}};
            }),
            "map's function returned values of \"x\" of the kind integer for the first batch and real for another; "
            "they must be the same for all");
  EXPECT_EQ(refusal([&] { d.rename_column("text", "label"); }),
            "the column \"text\" cannot become \"label\", which is there already");
  EXPECT_EQ(refusal([&] { d.select({0, 4}); }), "row 4 was asked for in a data set of 4 rows");
  EXPECT_EQ(refusal([&] { d[-1]; }), "row -1 was asked for in a data set of 4 rows");
  EXPECT_EQ(refusal([&] { d.map([](const Batch&) { return Columns{}; }, {.batch_size = 0}); }),
            "batch_size is 0, it must be at least 1");
  EXPECT_EQ(refusal([&] { d.map([](const Batch&) { return Columns{}; }, {.num_threads = 0}); }),
            "num_threads is 0, it must lie between 1 and 1024");
  EXPECT_EQ(refusal([&] { d.train_test_split({.test_size = 4}); }),
            "test_size is 4 for a data set of 4 rows; it must be a share between 0 and 1 or a whole number, and leave "
            "both splits at least one row");
  for (const double size : {0.0, -1.0, 1.5, std::numeric_limits<double>::quiet_NaN(), 1e300})
    EXPECT_NE(refusal([&] { d.train_test_split({.test_size = size}); }), "accepted") << size;
  EXPECT_EQ(refusal([] { Dataset({{"a", Column::Integers{1}}, {"b", Column::Integers{1, 2}}}); }),
            "the column \"b\" has 2 rows, \"a\" has 1; all columns of a data set have the same number");
  EXPECT_EQ(refusal([] { Dataset({{"a", Column::Integers{2}}}, {{"a", {{"no", "yes"}}}}); }),
            "the column \"a\" holds the value 2; its 2 classes are numbered from 0, and -1 is unknown");
  EXPECT_EQ(refusal([] { Dataset({{"a", Column::Reals{NAN}}}).sort("a"); }),
            "the column \"a\" holds NaN, which has no place in an order");
}

TEST(DatasetDict, DoesToEachSplitWhatADatasetDoes) {
  const DatasetDict splits({{"train", small()}, {"validation", small().take(2)}});
  EXPECT_EQ(splits.split_names(), (Names{"train", "validation"}));
  EXPECT_EQ(splits.size(), 2u);
  EXPECT_TRUE(splits.contains("train"));
  const auto count = [](const Batch& b) -> Columns {
    return {{"n", Column::Integers(static_cast<std::size_t>(b.size()))}};
  };
  EXPECT_EQ(splits.map(count)["validation"].column_names(), (Names{"label", "n", "text"}));
  EXPECT_EQ(splits.filter([](const Row& row) { return row.text("text") == "a"; })["train"].size(), 2);
  EXPECT_EQ(splits.rename_column("text", "sentence")["train"].column_names(), (Names{"label", "sentence"}));
  EXPECT_EQ(splits.remove_columns({"text"})["train"].column_names(), (Names{"label"}));
  EXPECT_EQ(splits.sort("text")["validation"].column("text").texts(), (Names{"a", "c"}));
  EXPECT_EQ(splits.shuffle(3)["train"].column("label").integers(), small().shuffle(3).column("label").integers());
  EXPECT_EQ(refusal([&] { splits["test"]; }), "there is no split \"test\"; the splits: train, validation");
}

}  // namespace
}  // namespace sinter::data
