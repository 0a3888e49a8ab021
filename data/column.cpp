#include "data/column.h"

#include "core/error.h"

namespace sinter::data {

std::span<const std::int32_t> Lists::operator[](std::int64_t row) const {
  const auto begin = static_cast<std::size_t>(offsets[static_cast<std::size_t>(row)]);
  const auto end = static_cast<std::size_t>(offsets[static_cast<std::size_t>(row) + 1]);
  return std::span(values).subspan(begin, end - begin);
}

void Lists::push_back(std::span<const std::int32_t> list) {
  values.insert(values.end(), list.begin(), list.end());
  offsets.push_back(static_cast<std::int64_t>(values.size()));
}

void Lists::append(const Lists& other) {
  const std::int64_t base = offsets.back();
  values.insert(values.end(), other.values.begin(), other.values.end());
  for (std::int64_t row = 1; row <= other.size(); ++row)
    offsets.push_back(base + other.offsets[static_cast<std::size_t>(row)]);
}

std::int64_t Column::size() const {
  return std::visit([](const auto& values) { return static_cast<std::int64_t>(values.size()); }, values_);
}

const char* Column::kind() const {
  constexpr const char* names[] = {"text", "integer", "real", "list"};
  return names[values_.index()];
}

template <class T>
const T& Column::get(const char* kind) const {
  if (const T* values = std::get_if<T>(&values_)) return *values;
  fail(ErrorCode::usage, "the column holds values of the kind ", this->kind(), ", not ", kind);
}

const Column::Texts& Column::texts() const { return get<Texts>("text"); }
const Column::Integers& Column::integers() const { return get<Integers>("integer"); }
const Column::Reals& Column::reals() const { return get<Reals>("real"); }
const Lists& Column::lists() const { return get<Lists>("list"); }

Column Column::take(std::span<const std::int64_t> rows) const {
  for (const std::int64_t row : rows)
    if (row < 0 || row >= size()) fail(ErrorCode::usage, "row ", row, " of a column of ", size(), " rows");
  return std::visit(
      [&]<class T>(const T& values) -> Column {
        T taken;
        for (const std::int64_t row : rows)
          if constexpr (std::is_same_v<T, Lists>)
            taken.push_back(values[row]);
          else
            taken.push_back(values[static_cast<std::size_t>(row)]);
        return taken;
      },
      values_);
}

void Column::append(const Column& other) {
  if (&other == this) return append(Column(other));
  std::visit(
      [&]<class T>(T& values) {
        const T& more = other.get<T>(kind());
        if constexpr (std::is_same_v<T, Lists>)
          values.append(more);
        else
          values.insert(values.end(), more.begin(), more.end());
      },
      values_);
}

}  // namespace sinter::data
