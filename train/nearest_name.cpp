#include "train/nearest_name.h"

#include <algorithm>
#include <numeric>

namespace sinter::train {
namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

constexpr std::size_t kShareOfChanges = 3;
constexpr std::size_t kShortestPart = 5;

}  // namespace

std::string nearest_name_hint(std::string_view name, const std::vector<std::string>& known) {
  const std::string_view plain = name.substr(std::min(name.find_first_not_of('-'), name.size()));
  const auto contains = [&](const std::string& other) { return other.find(plain) != std::string::npos; };
  const auto distance = [&](const std::string& other) { return edit_distance(other, name); };
  auto best = std::min_element(known.begin(), known.end(),
                               [&](const std::string& a, const std::string& b) { return distance(a) < distance(b); });
  if (best == known.end()) return "";
  if (distance(*best) * kShareOfChanges > plain.size())
    best = plain.size() < kShortestPart ? known.end() : std::find_if(known.begin(), known.end(), contains);
  return best == known.end() ? "" : "; the nearest one is " + *best;
}

}  // namespace sinter::train
