// Tokens that are found in a text as they stand, before it is cut into words: [CLS], [MASK] and what a user added.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sinter::data {

struct AddedToken {
  std::string content;
  std::int32_t id = -1;
  bool special = true;      ///< left out by decode(skip_special_tokens)
  bool normalized = false;  ///< its normalized form is found in the normalized text; else it itself in the raw text
};

/// Finds patterns in a text; Char is char (UTF-8) or char32_t.
template <class Char>
class PatternFinder {
 public:
  using View = std::basic_string_view<Char>;
  struct Match {
    std::size_t begin, end;   // in the text
    std::int32_t id;
  };

  /// `pattern` is not empty.
  void add(View pattern, std::int32_t id);
  bool empty() const { return empty_; }
  /// The first occurrence that begins at or behind `from`; where several begin there, the longest.
  std::optional<Match> find(View text, std::size_t from) const;

 private:
  struct Pattern {
    std::basic_string<Char> text;
    std::int32_t id;
  };
  // By the low byte of the first character; longer ones first.
  std::array<std::vector<Pattern>, 256> patterns_;
  bool empty_ = true;
};

extern template class PatternFinder<char>;
extern template class PatternFinder<char32_t>;

}  // namespace sinter::data
