#include "data/dataset.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <limits>
#include <numeric>
#include <thread>

#include "core/error.h"
#include "data/draws.h"

namespace sinter::data {

namespace {

std::string joined(const std::vector<std::string>& names) {
  if (names.empty()) return "none";
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::vector<std::int64_t> drawn_order(std::int64_t size, std::uint64_t seed, DrawPurpose purpose) {
  if (size > std::numeric_limits<std::uint32_t>::max())
    fail(ErrorCode::usage, "a data set of ", size, " rows cannot be shuffled; at most 4294967295 can");
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  Draws draws(seed, purpose, 0);
  shuffle(std::span(order), draws);
  return order;
}

std::vector<std::string> names_of(const Columns& columns) {
  std::vector<std::string> names;
  for (const auto& [name, column] : columns) names.push_back(name);
  return names;
}

/// A column access that names the column in its error.
template <class Get>
decltype(auto) named(const Dataset& dataset, const std::string& name, Get get) {
  const Column& column = dataset.column(name);
  try {
    return get(column);
  } catch (const Error& error) {
    fail(error.code(), "column \"", name, "\": ", error.what());
  }
}

/// The calls of one map over the batches of a data set.
class Mapping {
 public:
  Mapping(const Dataset& dataset, const Dataset::MapFunction& function, const MapOptions& options)
      : dataset_(dataset), function_(function), batch_size_(options.batch_size) {
    if (options.batch_size < 1) fail(ErrorCode::usage, "batch_size is ", options.batch_size, ", it must be at least 1");
    if (options.num_threads < 1 || options.num_threads > 1024)
      fail(ErrorCode::usage, "num_threads is ", options.num_threads, ", it must lie between 1 and 1024");
    const std::int64_t whole = dataset.size() / batch_size_ + (dataset.size() % batch_size_ != 0 ? 1 : 0);
    results_.resize(static_cast<std::size_t>(std::max<std::int64_t>(whole, 1)));
    failures_.resize(results_.size());
    threads_ = std::min(static_cast<std::size_t>(options.num_threads), results_.size());
  }

  Columns run() {
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 1; i < threads_; ++i) threads.emplace_back([this] { work(); });
      work();
    }
    // Batches are begun in their order and then run, so the first that fails is the same for any number of threads.
    for (const std::exception_ptr& failure : failures_)
      if (failure) std::rethrow_exception(failure);
    Columns all = std::move(results_.front());
    for (std::size_t i = 1; i < results_.size(); ++i) append(all, i);
    return all;
  }

 private:
  void work() {
    while (!failed_) {
      const std::size_t i = next_++;
      if (i >= results_.size()) return;
      try {
        const std::int64_t first = static_cast<std::int64_t>(i) * batch_size_;
        const Batch batch(dataset_, first, std::min(batch_size_, dataset_.size() - first));
        results_[i] = function_(batch);
        for (const auto& [name, column] : results_[i])
          if (column.size() != batch.size())
            fail(ErrorCode::usage, "map's function returned ", column.size(), " values of \"", name,
                 "\" for a batch of ", batch.size(), " rows; it must return one for each row");
      } catch (...) {
        failures_[i] = std::current_exception();
        failed_ = true;
      }
    }
  }

  void append(Columns& all, std::size_t i) {
    Columns more = std::move(results_[i]);
    if (names_of(more) != names_of(all))
      fail(ErrorCode::usage, "map's function returned the columns ", joined(names_of(all)), " for the first batch and ",
           joined(names_of(more)), " for another; they must be the same for all");
    for (auto& [name, column] : all) {
      const Column& values = more.at(name);
      if (std::string(values.kind()) != column.kind())
        fail(ErrorCode::usage, "map's function returned values of \"", name, "\" of the kind ", column.kind(),
             " for the first batch and ", values.kind(), " for another; they must be the same for all");
      column.append(values);
    }
  }

  const Dataset& dataset_;
  const Dataset::MapFunction& function_;
  std::int64_t batch_size_;
  std::size_t threads_;
  std::vector<Columns> results_;
  std::vector<std::exception_ptr> failures_;
  std::atomic<std::size_t> next_{0};
  std::atomic<bool> failed_{false};
};

}  // namespace

Dataset::Dataset(Columns columns, Features features) : features_(std::move(features)) {
  if (!columns.empty()) size_ = columns.begin()->second.size();
  for (auto& [name, column] : columns) {
    if (column.size() != size_)
      fail(ErrorCode::usage, "the column \"", name, "\" has ", column.size(), " rows, \"", columns.begin()->first,
           "\" has ", size_, "; all columns of a data set have the same number");
    columns_.emplace(name, std::make_shared<const Column>(std::move(column)));
  }
  for (const auto& [name, labels] : features_) {
    const auto classes = static_cast<std::int64_t>(labels.names.size());
    for (const std::int64_t value : named(*this, name, [](const Column& c) -> auto& { return c.integers(); }))
      if (value < -1 || value >= classes)
        fail(ErrorCode::usage, "the column \"", name, "\" holds the value ", value, "; its ", classes,
             " classes are numbered from 0, and -1 is unknown");
  }
}

std::vector<std::string> Dataset::column_names() const {
  std::vector<std::string> names;
  for (const auto& [name, column] : columns_) names.push_back(name);
  return names;
}

void Dataset::check_column(const std::string& name) const {
  if (!has_column(name))
    fail(ErrorCode::usage, "the data set has no column \"", name, "\"; its columns: ", joined(column_names()));
}

void Dataset::check_row(std::int64_t row) const {
  if (row < 0 || row >= size_) fail(ErrorCode::usage, "row ", row, " was asked for in a data set of ", size_, " rows");
}

const Column& Dataset::column(const std::string& name) const {
  check_column(name);
  return *columns_.at(name);
}

Row Dataset::operator[](std::int64_t row) const {
  check_row(row);
  return {*this, row};
}

Dataset Dataset::map(const MapFunction& function, const MapOptions& options) const {
  Dataset result = remove_columns(options.remove_columns);
  Columns columns = Mapping(*this, function, options).run();
  for (auto& [name, column] : columns) {
    result.columns_[name] = std::make_shared<const Column>(std::move(column));
    result.features_.erase(name);
  }
  result.size_ = result.columns_.empty() ? 0 : size_;
  return result;
}

Dataset Dataset::filter(const Predicate& predicate) const {
  std::vector<std::int64_t> rows;
  for (std::int64_t row = 0; row < size_; ++row)
    if (predicate({*this, row})) rows.push_back(row);
  return select(rows);
}

Dataset Dataset::select(std::span<const std::int64_t> rows) const {
  for (const std::int64_t row : rows)
    check_row(row);
  Dataset result;
  result.features_ = features_;
  result.size_ = static_cast<std::int64_t>(rows.size());
  for (const auto& [name, column] : columns_)
    result.columns_.emplace(name, std::make_shared<const Column>(column->take(rows)));
  return result;
}

Dataset Dataset::take(std::int64_t count) const {
  if (count < 0) fail(ErrorCode::usage, "the first ", count, " rows were asked for; the number must be at least 0");
  if (count >= size_) return *this;
  std::vector<std::int64_t> rows(static_cast<std::size_t>(count));
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  return select(rows);
}

Dataset Dataset::shuffle(std::uint64_t seed) const {
  return select(drawn_order(size_, seed, DrawPurpose::dataset_order));
}

Dataset Dataset::sort(const std::string& name, bool reverse) const {
  const Column& by = column(name);
  std::vector<std::int64_t> rows(static_cast<std::size_t>(size_));
  std::iota(rows.begin(), rows.end(), std::int64_t{0});
  const auto arrange = [&](const auto& values) {
    std::stable_sort(rows.begin(), rows.end(), [&](std::int64_t a, std::int64_t b) {
      const auto& left = values[static_cast<std::size_t>(a)];
      const auto& right = values[static_cast<std::size_t>(b)];
      return reverse ? right < left : left < right;
    });
  };
  if (by.is_list()) fail(ErrorCode::usage, "the column \"", name, "\" holds lists, which have no order to sort by");
  if (by.is_text()) arrange(by.texts());
  if (by.is_integer()) arrange(by.integers());
  if (by.is_real()) {
    // NaN compares with nothing, which no sorting algorithm survives.
    for (const double value : by.reals())
      if (std::isnan(value))
        fail(ErrorCode::usage, "the column \"", name, "\" holds NaN, which has no place in an order");
    arrange(by.reals());
  }
  return select(rows);
}

DatasetDict Dataset::train_test_split(const SplitOptions& options) const {
  const double rows = static_cast<double>(size_);
  const double count = options.test_size < 1 ? std::ceil(options.test_size * rows) : options.test_size;
  if (!(count >= 1 && count < rows) || count != std::floor(count))
    fail(ErrorCode::usage, "test_size is ", options.test_size, " for a data set of ", size_,
         " rows; it must be a share between 0 and 1 or a whole number, and leave both splits at least one row");
  std::vector<std::int64_t> order(static_cast<std::size_t>(size_));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  if (options.shuffle) order = drawn_order(size_, options.seed, DrawPurpose::train_test_split);
  const auto train = order.size() - static_cast<std::size_t>(count);
  return DatasetDict(
      {{"train", select(std::span(order).first(train))}, {"test", select(std::span(order).subspan(train))}});
}

Dataset Dataset::rename_column(const std::string& name, const std::string& new_name) const {
  check_column(name);
  if (has_column(new_name))
    fail(ErrorCode::usage, "the column \"", name, "\" cannot become \"", new_name, "\", which is there already");
  Dataset result = *this;
  result.columns_.emplace(new_name, result.columns_.extract(name).mapped());
  if (auto labels = result.features_.extract(name)) result.features_.emplace(new_name, std::move(labels.mapped()));
  return result;
}

Dataset Dataset::remove_columns(const std::vector<std::string>& names) const {
  Dataset result = *this;
  for (const std::string& name : names) {
    check_column(name);
    result.columns_.erase(name);
    result.features_.erase(name);
  }
  if (result.columns_.empty()) result.size_ = 0;
  return result;
}

Batch::Batch(const Dataset& dataset, std::int64_t first, std::int64_t count)
    : dataset_(dataset), first_(first), count_(count) {
  if (first < 0 || count < 0 || first > dataset.size() - count)
    fail(ErrorCode::usage, "rows ", first, " to ", first + count - 1, " were asked for in a data set of ",
         dataset.size());
}

Row Batch::operator[](std::int64_t row) const {
  if (row < 0 || row >= count_) fail(ErrorCode::usage, "row ", row, " was asked for in a batch of ", count_, " rows");
  return {dataset_, first_ + row};
}

std::span<const std::string> Batch::text(const std::string& column) const {
  const Column::Texts& all = named(dataset_, column, [](const Column& c) -> auto& { return c.texts(); });
  return std::span(all).subspan(static_cast<std::size_t>(first_), static_cast<std::size_t>(count_));
}

std::span<const std::int64_t> Batch::integers(const std::string& column) const {
  const Column::Integers& all = named(dataset_, column, [](const Column& c) -> auto& { return c.integers(); });
  return std::span(all).subspan(static_cast<std::size_t>(first_), static_cast<std::size_t>(count_));
}

std::span<const double> Batch::reals(const std::string& column) const {
  const Column::Reals& all = named(dataset_, column, [](const Column& c) -> auto& { return c.reals(); });
  return std::span(all).subspan(static_cast<std::size_t>(first_), static_cast<std::size_t>(count_));
}

Lists Batch::lists(const std::string& column) const {
  const Lists& all = named(dataset_, column, [](const Column& c) -> auto& { return c.lists(); });
  Lists copy;
  for (std::int64_t row = first_; row < first_ + count_; ++row) copy.push_back(all[row]);
  return copy;
}

const std::string& Row::text(const std::string& column) const {
  return named(dataset_, column, [](const Column& c) -> auto& { return c.texts(); })[static_cast<std::size_t>(row_)];
}

std::int64_t Row::integer(const std::string& column) const {
  return named(dataset_, column, [](const Column& c) -> auto& { return c.integers(); })[static_cast<std::size_t>(row_)];
}

double Row::real(const std::string& column) const {
  return named(dataset_, column, [](const Column& c) -> auto& { return c.reals(); })[static_cast<std::size_t>(row_)];
}

std::span<const std::int32_t> Row::list(const std::string& column) const {
  return named(dataset_, column, [](const Column& c) -> auto& { return c.lists(); })[row_];
}

const Dataset& DatasetDict::operator[](const std::string& split) const {
  if (!contains(split))
    fail(ErrorCode::usage, "there is no split \"", split, "\"; the splits: ", joined(split_names()));
  return splits_.at(split);
}

std::vector<std::string> DatasetDict::split_names() const {
  std::vector<std::string> names;
  for (const auto& [name, dataset] : splits_) names.push_back(name);
  return names;
}

DatasetDict DatasetDict::each(const std::function<Dataset(const Dataset&)>& change) const {
  DatasetDict result;
  for (const auto& [name, dataset] : splits_) result.splits_.emplace(name, change(dataset));
  return result;
}

DatasetDict DatasetDict::map(const Dataset::MapFunction& function, const MapOptions& options) const {
  return each([&](const Dataset& dataset) { return dataset.map(function, options); });
}

DatasetDict DatasetDict::filter(const Dataset::Predicate& predicate) const {
  return each([&](const Dataset& dataset) { return dataset.filter(predicate); });
}

DatasetDict DatasetDict::shuffle(std::uint64_t seed) const {
  return each([&](const Dataset& dataset) { return dataset.shuffle(seed); });
}

DatasetDict DatasetDict::sort(const std::string& column, bool reverse) const {
  return each([&](const Dataset& dataset) { return dataset.sort(column, reverse); });
}

DatasetDict DatasetDict::rename_column(const std::string& name, const std::string& new_name) const {
  return each([&](const Dataset& dataset) { return dataset.rename_column(name, new_name); });
}

DatasetDict DatasetDict::remove_columns(const std::vector<std::string>& names) const {
  return each([&](const Dataset& dataset) { return dataset.remove_columns(names); });
}

}  // namespace sinter::data
