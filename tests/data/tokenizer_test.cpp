#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <random>

#include "tests/core/expect_error.h"

namespace sinter::data {
namespace {

using Ids = std::vector<std::int32_t>;
using Words = std::vector<std::string>;

const Words kVocabulary = {"[UNK]", "[CLS]", "[SEP]", "[PAD]",  "[MASK]", "want", "##want", "##ed",  "wa", "un",
                           "runn",  "##ing", ",",     "lowest", "low",    "a",    "b",      "##b",   ".",  "é",
                           "[",     "]",     "cls",   "的",     "##人",   "?",    "##é",    "\U0001F600"};

const BertTokenizer& tokenizer() {
  static const BertTokenizer value(kVocabulary);
  return value;
}

std::string refusal(Words vocabulary) {
  return testing::refusal([&] { BertTokenizer refused(std::move(vocabulary)); }, ErrorCode::bad_input);
}

TEST(Tokenizer, GreedyLongestMatch) {
  EXPECT_EQ(tokenizer().tokens("UNwant\u00E9d,running"), (Words{"un", "##want", "##ed", ",", "runn", "##ing"}));
  EXPECT_EQ(tokenizer().tokens("lowest low"), (Words{"lowest", "low"}));
  EXPECT_EQ(tokenizer().tokens("unwantedX running"), (Words{"[UNK]", "runn", "##ing"}));
  EXPECT_EQ(tokenizer().tokens(""), Words{});
  EXPECT_EQ(tokenizer().tokens(" \t\n"), Words{});
  EXPECT_EQ(tokenizer().tokens("\U0001F600"), (Words{"\U0001F600"}));
}

TEST(Tokenizer, EncodeWritesTheTemplate) {
  const Encoding one = tokenizer().encode("a b");
  EXPECT_EQ(one.ids, (Ids{1, 15, 16, 2}));
  EXPECT_EQ(one.token_type_ids, (Ids{0, 0, 0, 0}));
  EXPECT_EQ(one.attention_mask, (Ids{1, 1, 1, 1}));
  EXPECT_EQ(tokenizer().encode("").ids, (Ids{1, 2}));
  const Encoding two = tokenizer().encode("a b", "low");
  EXPECT_EQ(two.ids, (Ids{1, 15, 16, 2, 14, 2}));
  EXPECT_EQ(two.token_type_ids, (Ids{0, 0, 0, 0, 1, 1}));
}

TEST(Tokenizer, SpecialTokensInTheText) {
  EXPECT_EQ(tokenizer().tokens("[MASK][MASK]a[PAD]"), (Words{"[MASK]", "[MASK]", "a", "[PAD]"}));
  EXPECT_EQ(tokenizer().tokens("[cls]"), (Words{"[", "cls", "]"}));
  EXPECT_EQ(tokenizer().tokens("[[SEP]"), (Words{"[", "[SEP]"}));
  EXPECT_EQ(tokenizer().tokens("[SEP"), (Words{"[", "[UNK]"}));
  const BertTokenizer without({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[", "]", "mask"});
  EXPECT_EQ(without.mask_token_id(), -1);
  EXPECT_EQ(without.tokens("[MASK]"), (Words{"[", "mask", "]"}));
}

TEST(Tokenizer, Options) {
  const BertTokenizer accents(kVocabulary, {.strip_accents = false});
  EXPECT_EQ(accents.tokens("\u00C9"), (Words{"\u00E9"}));
  const BertTokenizer cased(kVocabulary, {.do_lower_case = false});
  EXPECT_EQ(cased.tokens("A a \u00E9"), (Words{"[UNK]", "a", "\u00E9"}));
  const BertTokenizer stripped(kVocabulary, {.do_lower_case = false, .strip_accents = true});
  EXPECT_EQ(stripped.tokens("A \u00E0"), (Words{"[UNK]", "a"}));
  const BertTokenizer joined(kVocabulary, {.tokenize_chinese_chars = false});
  EXPECT_EQ(joined.tokens("的人"), (Words{"的", "##人"}));
  EXPECT_EQ(tokenizer().tokens("的人"), (Words{"的", "[UNK]"}));
}

TEST(Tokenizer, WordsOfMoreThanHundredCharacters) {
  const std::string b99(99, 'b');
  EXPECT_EQ(tokenizer().tokens("a" + b99).size(), 100u);
  EXPECT_EQ(tokenizer().tokens("ab" + b99), (Words{"[UNK]"}));
  // Characters count, not bytes.
  std::string accented;
  for (int i = 0; i < 100; ++i) accented += "\u00E9";
  EXPECT_EQ(BertTokenizer(kVocabulary, {.strip_accents = false}).tokens(accented).size(), 100u);
}

TEST(Tokenizer, InvalidBytesAreDropped) {
  EXPECT_EQ(tokenizer().tokens("low\xFF\x80"), (Words{"low"}));
  EXPECT_EQ(tokenizer().tokens("l\xC3ow"), (Words{"low"}));             // a lead byte without its continuation
  EXPECT_EQ(tokenizer().tokens("\xE2\x82low"), (Words{"low"}));         // cut short
  EXPECT_EQ(tokenizer().tokens("\xED\xA0\x80low"), (Words{"low"}));     // a surrogate
  EXPECT_EQ(tokenizer().tokens("\xF5\x80\x80\x80low\xF0"), (Words{"low"}));
  EXPECT_EQ(tokenizer().tokens(std::string_view("l\0ow", 4)), (Words{"low"}));
}

TEST(Tokenizer, Truncation) {
  const std::string ten = "a a a a a a a a a a";
  const auto single = [&](std::int64_t max) {
    return tokenizer().encode(ten, {.truncation = true, .max_length = max});
  };
  EXPECT_EQ(single(5).ids, (Ids{1, 15, 15, 15, 2}));
  EXPECT_EQ(single(2).ids, (Ids{1, 2}));
  EXPECT_EQ(single(12).length(), 12);
  EXPECT_EQ(single(13).length(), 12);
  EXPECT_EQ(tokenizer().encode(ten, {.truncation = false, .max_length = 3}).length(), 12);
  EXPECT_EQ(tokenizer().encode(ten, {.max_length = 3}).length(), 3);  // as in HF
  EXPECT_THROW(single(1), Error);
  // Lengths kept of a pair, from Hugging Face's library (reference/hf_trainer.md, section 4.3).
  const struct {
    int first, second, max, keep_first, keep_second;
  } rows[] = {{10, 3, 8, 3, 2}, {10, 3, 9, 3, 3}, {10, 10, 8, 2, 3}, {10, 10, 9, 3, 3}, {10, 10, 7, 2, 2},
              {3, 10, 8, 2, 3}, {3, 10, 12, 3, 6}, {3, 3, 9, 3, 3},  {10, 10, 3, 0, 0}};
  for (const auto& row : rows) {
    std::string first, second;
    for (int i = 0; i < row.first; ++i) first += "a ";
    for (int i = 0; i < row.second; ++i) second += "b ";
    const Encoding e = tokenizer().encode(first, second, {.truncation = true, .max_length = row.max});
    SCOPED_TRACE(std::to_string(row.first) + " and " + std::to_string(row.second) + " in " + std::to_string(row.max));
    EXPECT_EQ(std::count(e.ids.begin(), e.ids.end(), 15), row.keep_first);
    EXPECT_EQ(std::count(e.ids.begin(), e.ids.end(), 16), row.keep_second);
  }
  EXPECT_THROW(tokenizer().encode("a", "b", {.truncation = true, .max_length = 2}), Error);
}

TEST(Tokenizer, Decode) {
  EXPECT_EQ(tokenizer().decode(Ids{1, 10, 11, 12, 14, 25, 2}), "[CLS] running, low? [SEP]");
  EXPECT_EQ(tokenizer().decode(Ids{1, 10, 11, 12, 14, 18, 2}, true), "running, low.");
  EXPECT_EQ(tokenizer().decode(Ids{11, 11}), "##inging");  // the first token keeps its prefix
  EXPECT_EQ(tokenizer().decode(Ids{}), "");
  EXPECT_THROW(tokenizer().decode(Ids{28}), Error);
  EXPECT_THROW(tokenizer().decode(Ids{-1}), Error);
}

TEST(Tokenizer, VocabularyFaultsAreNamed) {
  EXPECT_EQ(refusal({}), "The vocabulary is empty; it needs one token a line.");
  EXPECT_EQ(refusal({"[PAD]", "[UNK]", "[CLS]"}),
            "The vocabulary has no [SEP], the tokenizer's sep_token; BERT needs cls_token, sep_token, pad_token and "
            "unk_token.");
  EXPECT_EQ(refusal({"[PAD]", "[UNK]", "x", "x"}), "The vocabulary has \"x\" twice, as tokens 2 and 3.");
  EXPECT_EQ(refusal({"##x", "##x"}), "The vocabulary has \"##x\" twice, as tokens 0 and 1.");
  EXPECT_EQ(refusal({"[PAD]", ""}), "Token 1 (line 2) of the vocabulary is empty; each line needs a token.");
  EXPECT_EQ(refusal({"\xFF"}), "Token 0 (line 1) of the vocabulary is not valid UTF-8.");
}

TEST(Tokenizer, VocabularyFiles) {
  const auto folder = std::filesystem::path(::testing::TempDir());
  const std::string path = (folder / ("sinter_vocab_" + std::to_string(::getpid()) + ".txt")).string();
  tokenizer().save_vocabulary(path);
  EXPECT_EQ(BertTokenizer::from_vocab_file(path).vocabulary(), kVocabulary);
  std::ofstream(path, std::ios::binary) << "[PAD]\r\n[UNK] \r\n[CLS]\n[SEP]\nx";
  EXPECT_EQ(BertTokenizer::from_vocab_file(path).vocabulary(), (Words{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "x"}));
  std::ofstream(path, std::ios::binary) << "";
  EXPECT_EQ(testing::refusal([&] { BertTokenizer::from_vocab_file(path); }, ErrorCode::bad_input),
            path + ": The vocabulary is empty; it needs one token a line.");
  std::filesystem::remove(path);
  EXPECT_THROW(BertTokenizer::from_vocab_file(path), Error);
  EXPECT_THROW(BertTokenizer::from_vocab_file(folder.string()), Error);
  EXPECT_THROW(tokenizer().save_vocabulary((folder / "no" / "such" / "folder").string()), Error);
}

TEST(Tokenizer, LongTextsTakeLinearTime) {
  EXPECT_EQ(tokenizer().tokens(std::string(10'000'000, 'a')), (Words{"[UNK]"}));
  std::string marks = "a";
  for (int i = 0; i < 500'000; ++i) marks += "\u0301\u0323";  // one run of a million combining marks to put in order
  EXPECT_EQ(tokenizer().tokens(marks), (Words{"a"}));
  EXPECT_EQ(tokenizer().tokens(std::string(1'000'000, '[')).size(), 1'000'000u);
}

// Any bytes give tokens of the vocabulary, and each piece of garbage costs no more than itself.
TEST(Tokenizer, RandomBytes) {
  std::mt19937 engine(1);
  const Words pieces = {"[CLS]", "[", "a", "low", " ", "\xC3", "\xA9", "\xE7\x9A\x84", "\xF0\x9F", "\xED\xA0", "\u0301",
                        "\u0345", "\uAC00", "\xFF", "#", "##", "\u0130", "\uFFFD", "\u200B", "\u00A0"};
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (std::size_t i = engine() % 24; i > 0; --i) {
      text += engine() % 2 == 0 ? pieces[engine() % pieces.size()] : std::string(1, static_cast<char>(engine() % 256));
    }
    const Encoding e = tokenizer().encode(text);
    ASSERT_LE(e.ids.size(), text.size() * 4 + 2);
    for (const std::int32_t id : e.ids) ASSERT_TRUE(id >= 0 && id < tokenizer().vocab_size());
    ASSERT_EQ(tokenizer().tokens(text).size() + 2, e.ids.size());
  }
}

}  // namespace
}  // namespace sinter::data
