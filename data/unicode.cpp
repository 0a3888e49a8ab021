#include "data/unicode.h"

#include <algorithm>
#include <iterator>

namespace sinter::data {

namespace {

struct CodePointRange {
  char32_t first;
  char32_t last;
};

struct CombiningRange {
  char32_t first;
  char32_t last;
  int combining_class;
};

// No mapping has more than four characters; the rest of `to` is 0.
struct CodePointMapping {
  char32_t from;
  char32_t to[4];
};

#include "data/tables/unicode.inc"

// The range that holds c, or null. Tables ascend.
template <class Range, std::size_t n>
const Range* find_range(const Range (&table)[n], char32_t c) {
  const Range* next = std::upper_bound(std::begin(table), std::end(table), c,
                                       [](char32_t value, const Range& range) { return value < range.first; });
  return next != std::begin(table) && c <= std::prev(next)->last ? std::prev(next) : nullptr;
}

template <std::size_t n>
const CodePointMapping* find_mapping(const CodePointMapping (&table)[n], char32_t c) {
  const auto before = [](const CodePointMapping& entry, char32_t value) { return entry.from < value; };
  const auto* found = std::lower_bound(std::begin(table), std::end(table), c, before);
  return found != std::end(table) && found->from == c ? found : nullptr;
}

int combining_class(char32_t c) {
  if (c < 0x300) return 0;
  const CombiningRange* range = find_range(kCombiningClass, c);
  return range == nullptr ? 0 : range->combining_class;
}

struct DecomposedCharacter {
  char32_t code_point;
  int combining_class;
  bool begins;   // the first one of its decomposition
};

void append_decomposition(std::vector<DecomposedCharacter>& result, char32_t c) {
  const auto add = [&](char32_t part, bool begins) { result.push_back({part, combining_class(part), begins}); };
  constexpr char32_t kFirstHangul = 0xAC00, kLastHangul = 0xD7A3;
  if (c >= kFirstHangul && c <= kLastHangul) {
    // The Unicode Standard, section 3.12: syllable = (lead * 21 + vowel) * 28 + tail, tail 0 meaning none.
    const char32_t syllable = c - kFirstHangul;
    add(0x1100 + syllable / (21 * 28), true);
    add(0x1161 + syllable % (21 * 28) / 28, false);
    if (syllable % 28 != 0) add(0x11A7 + syllable % 28, false);
  } else if (const CodePointMapping* mapping = c < 0xC0 ? nullptr : find_mapping(kDecomposition, c)) {
    for (const char32_t& part : mapping->to)
      if (part != 0) add(part, &part == mapping->to);
  } else {
    add(c, true);
  }
}

// Within a run of marks (combining class above 0), ascending class; equal ones in text order.
void order_marks(std::vector<DecomposedCharacter>& text) {
  const auto is_starter = [](const DecomposedCharacter& c) { return c.combining_class == 0; };
  for (auto at = text.begin(); at != text.end();) {
    const auto run = std::find_if_not(at, text.end(), is_starter);
    at = std::find_if(run, text.end(), is_starter);
    if (at - run > 1) {
      std::stable_sort(run, at, [](const auto& a, const auto& b) { return a.combining_class < b.combining_class; });
    }
  }
}

}  // namespace

bool is_removed(char32_t c) { return find_range(kRemoved, c) != nullptr; }
bool is_separator(char32_t c) { return find_range(kSeparator, c) != nullptr; }
bool is_cjk(char32_t c) { return c >= 0x3400 && find_range(kCjk, c) != nullptr; }
bool is_punctuation(char32_t c) { return find_range(kPunctuation, c) != nullptr; }
bool is_nonspacing_mark(char32_t c) { return c >= 0x300 && find_range(kNonspacingMark, c) != nullptr; }

TracedText decompose(const TracedText& source) {
  std::vector<DecomposedCharacter> characters;
  characters.reserve(source.text.size());
  for (const char32_t c : source.text) append_decomposition(characters, c);
  order_marks(characters);
  TracedText result;
  result.text.reserve(characters.size());
  result.origin.reserve(characters.size());
  std::size_t begun = 0;
  for (const DecomposedCharacter& c : characters) {
    begun += c.begins ? 1 : 0;
    result.push_back(c.code_point, source.origin[begun - 1]);   // a run's lowest class always begins a decomposition
  }
  return result;
}

void append_lower(TracedText& text, char32_t c, std::uint32_t from) {
  if (c < 0x80) {
    text.push_back(c >= U'A' && c <= U'Z' ? c + 32 : c, from);
  } else if (const CodePointMapping* mapping = find_mapping(kLowercase, c)) {
    for (const char32_t part : mapping->to)
      if (part != 0) text.push_back(part, from);
  } else {
    text.push_back(c, from);
  }
}

}  // namespace sinter::data
