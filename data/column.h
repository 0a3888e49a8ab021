// What a data set is made of: named columns with one value a row.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace sinter::data {

/// Lists of integers of differing lengths, one a row, stored one behind the other: token ids and the like.
struct Lists {
  std::vector<std::int32_t> values;
  std::vector<std::int64_t> offsets = {0};   ///< row i owns values[offsets[i]] .. values[offsets[i + 1] - 1]

  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  std::span<const std::int32_t> operator[](std::int64_t row) const;
  void push_back(std::span<const std::int32_t> list);
  /// Adds the rows of another object behind these.
  void append(const Lists& other);
};

/// One column. Values of a row: a text, an integer (labels, indices), a real number, or a list of integers.
class Column {
 public:
  using Texts = std::vector<std::string>;
  using Integers = std::vector<std::int64_t>;
  using Reals = std::vector<double>;

  Column(Texts values) : values_(std::move(values)) {}
  Column(Integers values) : values_(std::move(values)) {}
  Column(Reals values) : values_(std::move(values)) {}
  Column(Lists values) : values_(std::move(values)) {}

  std::int64_t size() const;
  /// "text", "integer", "real" or "list".
  const char* kind() const;

  bool is_text() const { return std::holds_alternative<Texts>(values_); }
  bool is_integer() const { return std::holds_alternative<Integers>(values_); }
  bool is_real() const { return std::holds_alternative<Reals>(values_); }
  bool is_list() const { return std::holds_alternative<Lists>(values_); }

  /// ErrorCode::usage, naming both kinds, when the column is of another kind.
  const Texts& texts() const;
  const Integers& integers() const;
  const Reals& reals() const;
  const Lists& lists() const;

  /// The values of the given rows, in their order, repetitions included. ErrorCode::usage for a row out of range.
  Column take(std::span<const std::int64_t> rows) const;
  /// Adds the rows of `other` behind these; ErrorCode::usage when it is of another kind.
  void append(const Column& other);

 private:
  template <class T>
  const T& get(const char* kind) const;

  std::variant<Texts, Integers, Reals, Lists> values_;
};

using Columns = std::map<std::string, Column>;

}  // namespace sinter::data
