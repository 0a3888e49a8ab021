#include "data/added_tokens.h"

#include <algorithm>

namespace sinter::data {

namespace {

template <class Char>
std::size_t bucket(Char c) {
  return static_cast<std::size_t>(c) & 0xFF;
}

}  // namespace

template <class Char>
void PatternFinder<Char>::add(View pattern, std::int32_t id) {
  std::vector<Pattern>& same_start = patterns_[bucket(pattern[0])];
  const auto shorter = [&](const Pattern& other) { return other.text.size() < pattern.size(); };
  same_start.insert(std::find_if(same_start.begin(), same_start.end(), shorter),
                    {std::basic_string<Char>(pattern), id});
  empty_ = false;
}

template <class Char>
std::optional<typename PatternFinder<Char>::Match> PatternFinder<Char>::find(View text, std::size_t from) const {
  for (std::size_t at = from; at < text.size(); ++at)
    for (const Pattern& pattern : patterns_[bucket(text[at])])
      if (text.substr(at).starts_with(pattern.text)) return Match{at, at + pattern.text.size(), pattern.id};
  return std::nullopt;
}

template class PatternFinder<char>;
template class PatternFinder<char32_t>;

}  // namespace sinter::data
