// Calls of the tokenizer on batches. The expected rows are transformers 5.23's for the same vocabulary.

#include <gtest/gtest.h>

#include <sstream>

#include "data/tokenizer.h"
#include "tests/core/expect_error.h"

namespace sinter::data {
namespace {

using Words = std::vector<std::string>;

const Words kVocabulary = {"[UNK]", "[CLS]", "[SEP]", "[PAD]",  "[MASK]", "want", "##want", "##ed",  "wa", "un",
                           "runn",  "##ing", ",",     "lowest", "low",    "a",    "b",      "##b",   ".",  "é",
                           "[",     "]",     "cls",   "的",     "##人",   "?",    "##é",    "\U0001F600"};
const Words kTexts = {"a b low", "runn", "UNwant\u00E9d,running a"};
const Words kPairs = {"a", "b low low", "want"};

const BertTokenizer& tokenizer() {
  static const BertTokenizer value(kVocabulary, {.model_max_length = 8});
  return value;
}

// Rows as "1 15 2 | 1 2".
std::string str(const std::optional<Lists>& lists) {
  if (!lists) return "none";
  std::ostringstream text;
  for (std::int64_t row = 0; row < lists->size(); ++row) {
    if (row > 0) text << "| ";
    for (const std::int32_t value : (*lists)[row]) text << value << ' ';
  }
  const std::string all = text.str();
  return all.substr(0, all.size() - (all.empty() ? 0 : 1));
}

std::string refusal(const Words& texts, const std::optional<Words>& pairs, const TokenizeOptions& options) {
  return testing::refusal([&] { pairs ? tokenizer()(texts, *pairs, options) : tokenizer()(texts, options); });
}

TEST(TokenizerBatch, InputIds) {
  const std::string a = "1 15 16 14 2", b = "1 10 2", c = "1 9 6 7 12 10 11 15 2";
  const struct {
    const char* name;
    TokenizeOptions options;
    std::string ids;
  } rows[] = {
      {"default", {}, a + " | " + b + " | " + c},
      {"longest", {.padding = true}, a + " 3 3 3 3 | " + b + " 3 3 3 3 3 3 | " + c},
      {"longest, multiple",
       {.padding = "longest", .pad_to_multiple_of = 8},
       a + " 3 3 3 3 3 3 3 3 3 3 3 | " + b + " 3 3 3 3 3 3 3 3 3 3 3 3 3 | " + c + " 3 3 3 3 3 3 3"},
      {"left", {.padding = true, .padding_side = "left"}, "3 3 3 3 " + a + " | 3 3 3 3 3 3 " + b + " | " + c},
      {"max_length of the model", {.padding = "max_length"}, a + " 3 3 3 | " + b + " 3 3 3 3 3 | " + c},
      {"max_length, multiple",
       {.padding = "max_length", .max_length = 7, .pad_to_multiple_of = 4},
       a + " 3 3 3 | " + b + " 3 3 3 3 3 | " + c},
      {"cut and padded", {.padding = true, .truncation = true, .max_length = 5}, a + " | 1 10 2 3 3 | 1 9 6 7 2"},
      {"cut to the model's", {.truncation = true}, a + " | " + b + " | 1 9 6 7 12 10 11 2"},
      {"max_length alone cuts", {.max_length = 4}, "1 15 16 2 | 1 10 2 | 1 9 6 2"},
      {"not with padding", {.padding = true, .max_length = 4}, a + " 3 3 3 3 | " + b + " 3 3 3 3 3 3 | " + c},
      {"not if told so", {.truncation = false, .max_length = 4}, a + " | " + b + " | " + c},
      {"cut on the left",
       {.truncation = true, .max_length = 5, .truncation_side = "left"},
       a + " | " + b + " | 1 10 11 15 2"},
      {"no special tokens", {.add_special_tokens = false, .padding = true},
       "15 16 14 3 3 3 3 | 10 3 3 3 3 3 3 | 9 6 7 12 10 11 15"},
      {"nothing but special tokens", {.truncation = "only_first", .max_length = 2}, "1 2 | 1 2 | 1 2"},
      {"nothing", {.add_special_tokens = false, .truncation = true, .max_length = 0}, "| |"},
  };
  for (const auto& row : rows) EXPECT_EQ(str(tokenizer()(kTexts, row.options).input_ids), row.ids) << row.name;
}

TEST(TokenizerBatch, Pairs) {
  const struct {
    const char* name;
    TokenizeOptions options;
    std::string ids;
  } rows[] = {
      {"default", {}, "1 15 16 14 2 15 2 | 1 10 2 16 14 14 2 | 1 9 6 7 12 10 11 15 2 5 2"},
      {"no special tokens", {.add_special_tokens = false}, "15 16 14 15 | 10 16 14 14 | 9 6 7 12 10 11 15 5"},
      {"longest_first", {.truncation = true, .max_length = 7},
       "1 15 16 14 2 15 2 | 1 10 2 16 14 14 2 | 1 9 6 7 2 5 2"},
      {"longest_first, left", {.truncation = true, .max_length = 7, .truncation_side = "left"},
       "1 15 16 14 2 15 2 | 1 10 2 16 14 14 2 | 1 10 11 15 2 5 2"},
  };
  for (const auto& row : rows) EXPECT_EQ(str(tokenizer()(kTexts, kPairs, row.options).input_ids), row.ids) << row.name;
  EXPECT_EQ(str(tokenizer()(Words{"a b low"}, Words{"a"}, {.truncation = "only_first", .max_length = 5}).input_ids),
            "1 15 2 15 2");
  EXPECT_EQ(str(tokenizer()(Words{"a"}, Words{"b b b"}, {.truncation = "only_second", .max_length = 5}).input_ids),
            "1 15 2 16 2");
  EXPECT_EQ(str(tokenizer()(Words{""}, Words{""}).input_ids), "1 2 2");
}

TEST(TokenizerBatch, EveryColumn) {
  const BatchEncoding batch = tokenizer()(kTexts, kPairs,
                                          {.padding = true,
                                           .return_special_tokens_mask = true,
                                           .return_offsets_mapping = true,
                                           .return_length = true});
  EXPECT_EQ(batch.size(), 3);
  EXPECT_EQ(str(batch.token_type_ids), "0 0 0 0 0 1 1 0 0 0 0 | 0 0 0 1 1 1 1 0 0 0 0 | 0 0 0 0 0 0 0 0 0 1 1");
  EXPECT_EQ(str(batch.attention_mask), "1 1 1 1 1 1 1 0 0 0 0 | 1 1 1 1 1 1 1 0 0 0 0 | 1 1 1 1 1 1 1 1 1 1 1");
  EXPECT_EQ(str(batch.special_tokens_mask), "1 0 0 0 1 0 1 1 1 1 1 | 1 0 1 0 0 0 1 1 1 1 1 | 1 0 0 0 0 0 0 0 1 0 1");
  EXPECT_EQ(str(batch.offset_mapping),
            "0 0 0 1 2 3 4 7 0 0 0 1 0 0 0 0 0 0 0 0 0 0 | 0 0 0 4 0 0 0 1 2 5 6 9 0 0 0 0 0 0 0 0 0 0 | "
            "0 0 0 2 2 6 6 8 8 9 9 13 13 16 17 18 0 0 0 4 0 0");
  EXPECT_EQ(batch.length, (std::vector<std::int64_t>{11, 11, 11}));
}

TEST(TokenizerBatch, ColumnsAreThoseAskedFor) {
  const Columns usual = tokenizer()(kTexts);
  EXPECT_EQ(usual.size(), 3u);
  EXPECT_EQ(usual.at("input_ids").lists()[1].size(), 3u);
  EXPECT_TRUE(usual.contains("token_type_ids") && usual.contains("attention_mask"));
  const Columns all = tokenizer()(
      kTexts, {.return_special_tokens_mask = true, .return_offsets_mapping = true, .return_length = true});
  EXPECT_EQ(all.size(), 6u);
  EXPECT_EQ(all.at("length").integers(), (std::vector<std::int64_t>{5, 3, 9}));
  EXPECT_EQ(all.at("offset_mapping").lists()[1].size(), 6u);
  EXPECT_TRUE(all.contains("special_tokens_mask"));
  const Columns ids = tokenizer()(kTexts, {.return_token_type_ids = false, .return_attention_mask = false});
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_EQ(tokenizer()(Words{}).size(), 0);
}

// Offsets count characters of the original text, as Python shows them.
TEST(TokenizerBatch, Offsets) {
  const struct {
    const char* text;
    const char* offsets;
  } rows[] = {
      {"\u00E9a, low", "0 2 2 3 4 7"},                        // two bytes, one character
      {"a\u0301 low", "0 1 3 6"},                              // a mark that is stripped belongs to no token
      {"l\u200Bow\tlow", "0 4 5 8"},                           // a character that is dropped lies within
      {"\u7684\u7684low", "0 1 1 2 2 5"},
      {"\u3000[MASK]\u00E9 a", "1 7 7 8 9 10"},
      {"un\u00E9want\u00E9d low", "0 9 10 13"},                // one [UNK] for the whole word
      {"\u0130 low", "0 1 2 5"},                               // lowered to two characters
      {"\xFF\xE7\x9Alow", "2 5"},                              // two ill-formed sequences, a character each
  };
  for (const auto& row : rows) {
    const BatchEncoding batch = tokenizer()(Words{row.text}, {.add_special_tokens = false,
                                                              .return_offsets_mapping = true});
    EXPECT_EQ(str(batch.offset_mapping), row.offsets) << row.text;
  }
}

TEST(TokenizerBatch, WithoutModelMaxLengthNothingIsCutOrPadded) {
  const BertTokenizer unlimited(kVocabulary);
  EXPECT_EQ(str(unlimited(Words{"a b low"}, {.padding = "max_length", .truncation = true}).input_ids), "1 15 16 14 2");
}

TEST(TokenizerBatch, SidesOfTheTokenizer) {
  const BertTokenizer left(kVocabulary, {.padding_side = "left", .truncation_side = "left"});
  EXPECT_EQ(str(left(Words{"a b low", "a"}, {.padding = true, .truncation = true, .max_length = 4}).input_ids),
            "1 16 14 2 | 3 1 15 2");
}

TEST(TokenizerBatch, ThreadsDoNotChangeTheResult) {
  Words texts, pairs;
  for (int i = 0; i < 777; ++i) {
    texts.push_back(std::string(static_cast<std::size_t>(i % 13), 'a') + " low, running ?");
    pairs.push_back(i % 3 == 0 ? "\u00E9 \u7684 [MASK]" : "want");
  }
  const auto encode = [&](int threads) {
    const BatchEncoding batch = tokenizer()(texts, pairs, {.padding = true, .num_threads = threads});
    return str(batch.input_ids) + str(batch.token_type_ids) + str(batch.attention_mask);
  };
  const std::string one = encode(1);
  for (const int threads : {0, 2, 3, 33}) EXPECT_EQ(encode(threads), one) << threads;
}

TEST(TokenizerBatch, RefusesContradictions) {
  EXPECT_EQ(refusal(kTexts, {}, {.truncation = true, .max_length = 1}),
            "max_length is 1; truncation needs at least 2, the number of special tokens.");
  EXPECT_EQ(refusal(kTexts, kPairs, {.truncation = true, .max_length = 2}),
            "max_length is 2; truncation needs at least 3, the number of special tokens.");
  EXPECT_EQ(refusal(kTexts, {}, {.max_length = -1}), "max_length is -1; it must not be negative.");
  EXPECT_EQ(refusal(kTexts, {}, {.padding = true, .pad_to_multiple_of = 0}),
            "pad_to_multiple_of is 0; it must be at least 1.");
  EXPECT_EQ(refusal(kTexts, {}, {.padding = true, .truncation = true, .max_length = 7, .pad_to_multiple_of = 4}),
            "max_length is 7, no multiple of pad_to_multiple_of 4; with truncation and padding together it must be "
            "one.");
  EXPECT_EQ(refusal(kTexts, {}, {.num_threads = -2}), "num_threads is -2; it must be at least 1, or 0 for all.");
  EXPECT_EQ(refusal(kTexts, Words{"a"}, {}), "There are 3 texts and 1 text_pairs; each text needs one.");
  EXPECT_EQ(refusal({"a"}, Words{"b b b"}, {.truncation = "only_first", .max_length = 5}),
            "Row 0 has 2 tokens too many for max_length 5, and truncation \"only_first\" may only shorten a text of 1; "
            "use \"longest_first\" or a greater max_length.");
  EXPECT_NE(refusal({"a a"}, Words{"b b"}, {.truncation = "only_first", .max_length = 5}), "accepted");  // none left
  EXPECT_EQ(refusal({"a", "a b low"}, {}, {.truncation = "only_second", .max_length = 4}),
            "truncation is \"only_second\", but row 1 has no second text to shorten.");
  EXPECT_EQ(refusal({"a b"}, {}, {.truncation = "only_second", .max_length = 4}), "accepted");
}

// Of the rows that fail, the first one is named, whatever the threads do.
TEST(TokenizerBatch, TheFirstFaultIsReported) {
  Words texts(1000, "a");
  texts[130] = texts[400] = texts[990] = "a a a";
  for (const int threads : {1, 2, 4})
    EXPECT_EQ(refusal(texts, {}, {.truncation = "only_second", .max_length = 3, .num_threads = threads}),
              "truncation is \"only_second\", but row 130 has no second text to shorten.");
}

TEST(TokenizerBatch, UnknownNames) {
  const auto refused = [](auto make) { return testing::refusal(make); };
  EXPECT_EQ(refused([] { return Padding("all"); }),
            "padding is \"all\"; it must be true, false, \"longest\", \"max_length\" or \"do_not_pad\".");
  EXPECT_EQ(refused([] { return Truncation("both"); }),
            "truncation is \"both\"; it must be true, false, \"longest_first\", \"only_first\", \"only_second\" or "
            "\"do_not_truncate\".");
  EXPECT_EQ(refused([] { return Side("top"); }), "a side is \"top\"; it must be \"left\" or \"right\".");
}

TEST(TokenizerBatch, CopiesShareTheVocabulary) {
  const BertTokenizer copy = tokenizer();
  EXPECT_EQ(&copy.vocabulary(), &tokenizer().vocabulary());
}

}  // namespace
}  // namespace sinter::data
