#include "data/unicode.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "data/utf8.h"

namespace sinter::data {
namespace {

std::u32string decompose(std::u32string_view text) {
  TracedText traced;
  for (const char32_t c : text) traced.push_back(c, static_cast<std::uint32_t>(traced.text.size()));
  return data::decompose(traced).text;
}

TEST(Unicode, Decomposition) {
  EXPECT_EQ(decompose(U"abc"), U"abc");
  EXPECT_EQ(decompose(U"\u00E9"), U"e\u0301");
  EXPECT_EQ(decompose(U"\u1E69"), U"s\u0323\u0307");              // more than one step
  EXPECT_EQ(decompose(U"\uAC00\uAC01"), U"\u1100\u1161\u1100\u1161\u11A8");
  EXPECT_EQ(decompose(U"\uFB01"), U"\uFB01");                     // a ligature is no canonical composition
}

TEST(Unicode, CanonicalOrdering) {
  EXPECT_EQ(decompose(U"a\u0301\u0323"), U"a\u0323\u0301");       // class 230 behind class 220
  EXPECT_EQ(decompose(U"a\u0301\u0300"), U"a\u0301\u0300");       // equal classes keep their order
  EXPECT_EQ(decompose(U"\u00E9\u0323b\u0301"), U"e\u0323\u0301b\u0301");
  EXPECT_EQ(decompose(U"a\u0345\u0301\u0334"), U"a\u0334\u0301\u0345");
  EXPECT_EQ(decompose(U"\u0650\U0001D171\u0619"), U"\u0619\u0650\U0001D171");   // classes 32, 216, 31
}

// What HF's NormalizedString does: a decomposition's parts share an origin, and ordering moves no origin.
TEST(Unicode, OriginsOfADecomposition) {
  const TracedText result = data::decompose({U"a\u00E9\u0323b\u0301\u0323", {3, 4, 5, 6, 7, 8}});
  EXPECT_EQ(result.text, U"ae\u0323\u0301b\u0323\u0301");
  EXPECT_EQ(result.origin, (std::vector<std::uint32_t>{3, 4, 5, 5, 6, 7, 8}));
}

TEST(Unicode, LowerCase) {
  TracedText lower;
  std::uint32_t from = 0;
  for (const char32_t c : std::u32string(U"AZ\u00C9\u03A3\u0130\u1E9E\u10A0z\u00DF")) append_lower(lower, c, from++);
  EXPECT_EQ(lower.text, U"az\u00E9\u03C3i\u0307\u00DF\u2D00z\u00DF");
  EXPECT_EQ(lower.origin, (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 4, 5, 6, 7, 8}));
}

TEST(Utf8, RoundTripOfEveryScalarValue) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(text, c);
    const Utf8Step step = decode_utf8(text);
    ASSERT_TRUE(step.valid && step.code_point == c && step.length == text.size()) << static_cast<unsigned>(c);
  }
}

// Lengths of the subparts as the Unicode Standard's tables 3-8 to 3-10 list them.
TEST(Utf8, MaximalSubparts) {
  const struct {
    std::string bytes;
    std::vector<std::size_t> lengths;
  } rows[] = {{"\xC0\xAF\xE0\x80\xBF", {1, 1, 1, 1, 1}},
              {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF", {1, 1, 1, 1, 1, 1, 1, 1}},
              {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", {1, 1, 1, 1, 1, 1, 1, 1, 1}},
              {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", {2, 1, 3, 2, 1}}};
  for (const auto& row : rows) {
    std::vector<std::size_t> lengths;
    std::string_view rest = row.bytes;
    while (!rest.empty()) {
      lengths.push_back(decode_utf8(rest).length);
      rest.remove_prefix(lengths.back());
    }
    EXPECT_EQ(lengths, row.lengths);
  }
  EXPECT_EQ(first_invalid_utf8("ab\xC3\xA9"), 4u);
  EXPECT_EQ(first_invalid_utf8("ab\xC3"), 2u);
}

}  // namespace
}  // namespace sinter::data
