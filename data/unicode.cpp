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

// `to` ends at the first 0; no mapping has more than four characters.
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

void append_mapping(std::u32string& text, const CodePointMapping& mapping) {
  for (const char32_t c : mapping.to) {
    if (c == 0) return;
    text += c;
  }
}

int combining_class(char32_t c) {
  if (c < 0x300) return 0;
  const CombiningRange* range = find_range(kCombiningClass, c);
  return range == nullptr ? 0 : range->combining_class;
}

// The Unicode Standard, section 3.12: syllable = (lead * 21 + vowel) * 28 + tail, tail 0 meaning none.
void append_hangul(std::u32string& text, char32_t syllable) {
  text += 0x1100 + syllable / (21 * 28);
  text += 0x1161 + syllable % (21 * 28) / 28;
  if (syllable % 28 != 0) text += 0x11A7 + syllable % 28;
}

}  // namespace

bool is_removed(char32_t c) { return find_range(kRemoved, c) != nullptr; }
bool is_separator(char32_t c) { return find_range(kSeparator, c) != nullptr; }
bool is_cjk(char32_t c) { return c >= 0x3400 && find_range(kCjk, c) != nullptr; }
bool is_punctuation(char32_t c) { return find_range(kPunctuation, c) != nullptr; }
bool is_nonspacing_mark(char32_t c) { return c >= 0x300 && find_range(kNonspacingMark, c) != nullptr; }

std::u32string decompose(const std::u32string& text) {
  constexpr char32_t kFirstHangul = 0xAC00, kLastHangul = 0xD7A3;
  std::u32string result;
  result.reserve(text.size());
  for (const char32_t c : text) {
    if (c < 0xC0) {
      result += c;
    } else if (c >= kFirstHangul && c <= kLastHangul) {
      append_hangul(result, c - kFirstHangul);
    } else if (const CodePointMapping* mapping = find_mapping(kDecomposition, c)) {
      append_mapping(result, *mapping);
    } else {
      result += c;
    }
  }
  // Canonical ordering: within a run of marks (combining class above 0), ascending class, equal ones in text order.
  const auto is_starter = [](char32_t c) { return combining_class(c) == 0; };
  for (auto at = result.begin(); at != result.end();) {
    const auto run = std::find_if_not(at, result.end(), is_starter);
    at = std::find_if(run, result.end(), is_starter);
    if (at - run > 1) {
      std::stable_sort(run, at, [](char32_t a, char32_t b) { return combining_class(a) < combining_class(b); });
    }
  }
  return result;
}

void append_lower(std::u32string& text, char32_t c) {
  if (c < 0x80) {
    text += c >= U'A' && c <= U'Z' ? c + 32 : c;
  } else if (const CodePointMapping* mapping = find_mapping(kLowercase, c)) {
    append_mapping(text, *mapping);
  } else {
    text += c;
  }
}

}  // namespace sinter::data
