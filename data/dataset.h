// Data sets: tables with named columns, as in Hugging Face's package `datasets`.
//
// A Dataset never changes, and a copy shares its columns: what looks like a change returns another Dataset. Errors are
// ErrorCode::usage unless said otherwise; those about a column name it and the columns that exist.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/column.h"

namespace sinter::data {

/// What an integer column of classes means: value i is names[i]; -1 is unknown.
struct ClassLabel {
  std::vector<std::string> names;
};

/// Column -> its classes, for the columns that have some.
using Features = std::map<std::string, ClassLabel>;

class Row;
class Batch;
class DatasetDict;

struct MapOptions {
  std::int64_t batch_size = 1000;            ///< rows of a call; the last one may have fewer
  int num_threads = 1;                       ///< above 1, the function is called from several threads at once
  std::vector<std::string> remove_columns;   ///< not kept beside the function's own columns
};

/// Below 1: the share of the rows, rounded up; else a number of rows.
struct SplitOptions {
  double test_size = 0.25;
  std::uint64_t seed = 42;   ///< of the order, with shuffle
  bool shuffle = true;       ///< false: the last rows are the test split
};

class Dataset {
 public:
  using MapFunction = std::function<Columns(const Batch&)>;
  using Predicate = std::function<bool(const Row&)>;

  Dataset() = default;   ///< no rows and no columns
  /// The columns have the same size; `features` speaks of integer columns that are there.
  explicit Dataset(Columns columns, Features features = {});

  std::int64_t size() const { return size_; }
  std::vector<std::string> column_names() const;
  bool has_column(const std::string& name) const { return columns_.contains(name); }
  const Column& column(const std::string& name) const;
  const Features& features() const { return features_; }
  /// A view of one row; the data set must outlive it.
  Row operator[](std::int64_t row) const;

  /// Calls `function` with the rows in batches, and adds the columns that it returns, or replaces those of the same
  /// name (whose class names go). It returns one value for each row it was given, and the same columns from each call;
  /// without any row it is called once, for its columns. With several threads the result is the same; when calls throw,
  /// the exception of the first batch that failed is thrown.
  Dataset map(const MapFunction& function, const MapOptions& options = {}) const;
  /// The rows for which the predicate holds.
  Dataset filter(const Predicate& predicate) const;

  /// The given rows in their order, repetitions included.
  Dataset select(std::span<const std::int64_t> rows) const;
  Dataset select(std::initializer_list<std::int64_t> rows) const {
    return select(std::span(rows.begin(), rows.size()));
  }
  /// The first `count` rows, or all where there are fewer.
  Dataset take(std::int64_t count) const;
  /// All rows in an order drawn with `seed`: a function of the seed and the number of rows, on every machine.
  Dataset shuffle(std::uint64_t seed) const;
  /// Ascending by a text, integer or real column (texts by their bytes); equal values stay in their order.
  Dataset sort(const std::string& column, bool reverse = false) const;
  /// "train" and "test"; both get at least one row, or it is an error.
  DatasetDict train_test_split(const SplitOptions& options = {}) const;

  Dataset rename_column(const std::string& name, const std::string& new_name) const;
  Dataset remove_columns(const std::vector<std::string>& names) const;

 private:
  using Shared = std::map<std::string, std::shared_ptr<const Column>>;

  void check_column(const std::string& name) const;
  void check_row(std::int64_t row) const;

  Shared columns_;
  Features features_;
  std::int64_t size_ = 0;
};

/// Consecutive rows of a data set, without a copy: what `map` hands to its function. Valid while the data set lives.
class Batch {
 public:
  /// Rows first .. first + count - 1.
  Batch(const Dataset& dataset, std::int64_t first, std::int64_t count);

  std::int64_t size() const { return count_; }
  std::vector<std::string> column_names() const { return dataset_.column_names(); }
  Row operator[](std::int64_t row) const;

  /// The values of a column of that kind.
  std::span<const std::string> text(const std::string& column) const;
  std::span<const std::int64_t> integers(const std::string& column) const;
  std::span<const double> reals(const std::string& column) const;
  /// A copy.
  Lists lists(const std::string& column) const;

 private:
  const Dataset& dataset_;
  std::int64_t first_;
  std::int64_t count_;
};

/// One row of a data set.
class Row {
 public:
  Row(const Dataset& dataset, std::int64_t row) : dataset_(dataset), row_(row) {}

  const std::string& text(const std::string& column) const;
  std::int64_t integer(const std::string& column) const;
  double real(const std::string& column) const;
  std::span<const std::int32_t> list(const std::string& column) const;

 private:
  const Dataset& dataset_;
  std::int64_t row_;
};

/// Splits by name: "train", "validation", "test". What a Dataset does, it does to each.
class DatasetDict {
 public:
  DatasetDict() = default;
  DatasetDict(std::map<std::string, Dataset> splits) : splits_(std::move(splits)) {}

  /// Names the splits that exist when this one does not.
  const Dataset& operator[](const std::string& split) const;
  bool contains(const std::string& split) const { return splits_.contains(split); }
  std::vector<std::string> split_names() const;
  auto begin() const { return splits_.begin(); }
  auto end() const { return splits_.end(); }
  std::size_t size() const { return splits_.size(); }

  DatasetDict map(const Dataset::MapFunction& function, const MapOptions& options = {}) const;
  DatasetDict filter(const Dataset::Predicate& predicate) const;
  DatasetDict shuffle(std::uint64_t seed) const;
  DatasetDict sort(const std::string& column, bool reverse = false) const;
  DatasetDict rename_column(const std::string& name, const std::string& new_name) const;
  DatasetDict remove_columns(const std::vector<std::string>& names) const;

 private:
  DatasetDict each(const std::function<Dataset(const Dataset&)>& change) const;

  std::map<std::string, Dataset> splits_;
};

}  // namespace sinter::data
