// Facts about Hugging Face's tokenizers from shared/conformance, which is not part of the repository.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "data/basic_tokenizer.h"
#include "data/tokenizer.h"
#include "data/unicode.h"
#include "data/utf8.h"

namespace sinter::data {
namespace {

using Words = std::vector<std::string>;

const std::string kShared = std::string(SINTER_SOURCE_DIR) + "/../shared";
const std::string kVocabulary = kShared + "/data/bert-base-uncased/vocab.txt";

std::string utf8(std::u32string_view text) {
  std::string result;
  for (const char32_t c : text) append_utf8(result, c);
  return result;
}

std::string join(const Words& words) {
  std::string result;
  for (const std::string& word : words) result += (result.empty() ? "" : " ") + word;
  return result;
}

std::string basic(const std::string& text, const NormalizerOptions& options = {}) {
  const std::u32string normalized = normalize(text, options).text;
  Words words;
  for (const std::u32string_view word : split_words(normalized)) words.push_back(utf8(word));
  return join(words);
}

template <class Numbers>
std::string numbers(const Numbers& values) {
  Words words;
  for (const auto value : values) words.push_back(std::to_string(value));
  return join(words);
}

char32_t only(const std::string& text) { return decode_utf8(text).code_point; }

std::string boolean(bool value) { return value ? "true" : "false"; }

// \xNN escapes of the rows about bytes.
std::string unescape_bytes(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text.compare(i, 2, "\\x") == 0) {
      result += static_cast<char>(std::stoi(text.substr(i + 2, 2), nullptr, 16));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

// The test vocabularies of the upstream projects; [PAD] at the end where they have none, which moves no id.
const BertTokenizer& google_toy() {
  static const BertTokenizer value(
      {"[UNK]", "[CLS]", "[SEP]", "want", "##want", "##ed", "wa", "un", "runn", "##ing", ",", "[PAD]"});
  return value;
}
const BertTokenizer& hugging_face_toy() {
  static const BertTokenizer value({"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "want", "##want", "##ed", "wa", "un",
                                    "runn", "##ing", ",", "low", "lowest"});
  return value;
}
const BertTokenizer& bert() {
  static const BertTokenizer value = BertTokenizer::from_vocab_file(kVocabulary);
  return value;
}

std::string content_ids(const BertTokenizer& tokenizer, const std::string& text) {
  const auto ids = tokenizer.encode(text).ids;
  return numbers(std::vector<std::int32_t>(ids.begin() + 1, ids.end() - 1));
}

std::string decode_own_vocabulary(const std::string& text) {
  Words vocabulary = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
  std::istringstream stream(text);
  std::vector<std::int32_t> ids;
  for (std::string token; stream >> token; vocabulary.push_back(token)) {
    ids.push_back(static_cast<std::int32_t>(vocabulary.size()));
  }
  return BertTokenizer(vocabulary).decode(ids);
}

std::string token_offsets(const std::string& text) {
  const BatchEncoding batch = bert()(Words{text}, {.return_offsets_mapping = true});
  const std::vector<std::int32_t>& values = batch.offset_mapping->values;
  Words offsets;
  for (std::size_t i = 0; i < values.size(); i += 2)
    offsets.push_back(std::to_string(values[i]) + "-" + std::to_string(values[i + 1]));
  return join(offsets);
}

// Borders of the words of a text, in bytes.
std::string word_offsets(const std::string& text) {
  std::vector<std::size_t> bytes = {0};   // where each character begins
  while (bytes.back() < text.size())
    bytes.push_back(bytes.back() + decode_utf8(std::string_view(text).substr(bytes.back())).length);
  const TracedText normal = normalize(text, {.do_lower_case = false});
  Words offsets;
  for (const std::u32string_view word : split_words(normal.text)) {
    const std::uint32_t* origin = normal.origin.data() + (word.data() - normal.text.data());
    offsets.push_back(std::to_string(bytes[origin[0]]) + "-" + std::to_string(bytes[origin[word.size() - 1] + 1]));
  }
  return join(offsets);
}

using Stage = std::function<std::string(const std::string&)>;

const std::map<std::string, Stage>& stages() {
  using Text = const std::string&;
  const auto normal = [](NormalizerOptions options) -> Stage {
    return [=](Text t) { return utf8(normalize(t, options).text); };
  };
  const auto words = [](NormalizerOptions options) -> Stage { return [=](Text t) { return basic(t, options); }; };
  const NormalizerOptions raw{.do_lower_case = false, .strip_accents = false, .tokenize_chinese_chars = false};
  static const std::map<std::string, Stage> value = {
      {"basic", words({})},
      {"basic.hf_fast", words({})},
      {"basic.lower.strip_accents=false", words({.strip_accents = false})},
      {"basic.lower.strip_accents=true", words({.strip_accents = true})},
      {"basic.nolower", words({.do_lower_case = false})},
      {"basic.nolower.strip_accents=false", words({.do_lower_case = false, .strip_accents = false})},
      {"basic.nolower.strip_accents=true", words({.do_lower_case = false, .strip_accents = true})},
      {"bytes.google(decode utf-8 ignore, then basic)", words({})},
      {"pretok", words(raw)},
      {"pretok(after chinese padding)", words({.do_lower_case = false})},
      {"norm.hf_fast", normal({})},
      {"norm.clean_only", normal(raw)},
      {"norm.chinese_only", normal({.do_lower_case = false})},
      {"norm.lowercase_only", normal({.strip_accents = false})},
      {"norm.strip_accents_only", normal({.do_lower_case = false, .strip_accents = true})},
      {"is_control", [](Text t) { return boolean(is_removed(only(t))); }},
      {"is_punctuation", [](Text t) { return boolean(is_punctuation(only(t))); }},
      {"is_whitespace", [](Text t) { return boolean(is_separator(only(t))); }},
      {"wordpiece.toy_google", [](Text t) { return join(google_toy().tokens(t)); }},
      {"wordpiece.toy_hf", [](Text t) { return join(hugging_face_toy().tokens(t)); }},
      {"ids.toy_google", [](Text t) { return content_ids(google_toy(), t); }},
      {"wordpiece.tokenize_chinese_chars=true",
       [](Text t) { return join(BertTokenizer({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "的", "人", "有"}).tokens(t)); }},
      {"wordpiece.tokenize_chinese_chars=false",
       [](Text t) {
         const Words vocabulary = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "的", "##人", "##有"};
         return join(BertTokenizer(vocabulary, {.tokenize_chinese_chars = false}).tokens(t));
       }},
      {"wordpiece.vocab(\\u043a,##\\u0443\\u043f,##\\u0438\\u0445\\u0430)",
       [](Text t) {
         return join(BertTokenizer({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "к", "##уп", "##иха"}).tokens(t));
       }},
      {"ids.toy_hf", [](Text t) { return content_ids(hugging_face_toy(), t); }},
      {"wordpiece.bert-base-uncased", [](Text t) { return join(bert().tokens(t)); }},
      {"wordpiece.bert-base-uncased+special", [](Text t) { return "[CLS] " + join(bert().tokens(t)) + " [SEP]"; }},
      {"ids.bert-base-uncased+special", [](Text t) { return numbers(bert().encode(t).ids); }},
      {"pair_ids.bert-base-uncased(second=world)", [](Text t) { return numbers(bert().encode(t, "world").ids); }},
      {"decode.wordpiece(tokens in, text out)", decode_own_vocabulary},
      {"offsets.bert-base-uncased(codepoints)", token_offsets},
      {"pretok.offsets(bytes)", word_offsets},
  };
  return value;
}

TEST(TokenizerConformance, Vectors) {
  std::ifstream file(kShared + "/conformance/tokenizer_vectors.tsv");
  if (!file) GTEST_SKIP() << "There is no " << kShared << "/conformance/tokenizer_vectors.tsv";
  if (!std::filesystem::exists(kVocabulary)) GTEST_SKIP() << "There is no " << kVocabulary;
  std::map<std::string, int> not_run;
  int run = 0, passed = 0, line_number = 0;
  for (std::string line; std::getline(file, line);) {
    ++line_number;
    if (line.empty() || line[0] == '#') continue;
    const std::size_t first = line.find('\t');
    const std::size_t second = line.find('\t', first + 1);
    const std::size_t third = line.find('\t', second + 1);
    ASSERT_NE(third, std::string::npos) << line_number;
    const std::string stage = line.substr(first + 1, second - first - 1);
    const auto parse = [](const std::string& text) {
      return nlohmann::json::parse("\"" + text + "\"").get<std::string>();
    };
    const auto found = stages().find(stage);
    if (found == stages().end()) {
      ++not_run[stage];
      continue;
    }
    const std::string input = line.substr(0, first);
    ++run;
    const std::string result = found->second(stage.starts_with("bytes.") ? unescape_bytes(input) : parse(input));
    const std::string expected = parse(line.substr(second + 1, third - second - 1));
    EXPECT_EQ(result, expected) << "line " << line_number << ", stage " << stage << ", input " << input;
    passed += result == expected ? 1 : 0;
  }
  std::cout << passed << " of " << run << " vectors pass; not run:\n";
  for (const auto& [stage, count] : not_run) std::cout << "  " << count << "  " << stage << "\n";
  EXPECT_GE(run, 800);
}

TEST(TokenizerConformance, Strings) {
  std::ifstream file(kShared + "/conformance/tokenizer_strings.jsonl");
  if (!file) GTEST_SKIP() << "There is no " << kShared << "/conformance/tokenizer_strings.jsonl";
  if (!std::filesystem::exists(kVocabulary)) GTEST_SKIP() << "There is no " << kVocabulary;
  int run = 0, passed = 0;
  for (std::string line; std::getline(file, line);) {
    const auto row = nlohmann::json::parse(line);
    const auto text = row["text"].get<std::string>();
    const std::string ids = numbers(row["ids"].get<std::vector<int>>());
    const bool good = bert().tokens(text) == row["tokens"].get<Words>() && content_ids(bert(), text) == ids;
    EXPECT_TRUE(good) << line << "\n  got " << join(bert().tokens(text));
    ++run;
    passed += good ? 1 : 0;
  }
  std::cout << passed << " of " << run << " strings pass\n";
  EXPECT_EQ(run, 103);
}

// Every code point of the sweep: "a" + c + "b" is cut in two, in three, or joined.
TEST(TokenizerConformance, CodePointClasses) {
  std::ifstream file(kShared + "/conformance/codepoint_classes.json");
  if (!file) GTEST_SKIP() << "There is no " << kShared << "/conformance/codepoint_classes.json";
  const auto ranges = nlohmann::json::parse(file)["ranges"];
  std::map<char32_t, std::size_t> expected;  // number of words
  for (const auto& [name, words] : {std::pair("space", 2), std::pair("isolated", 3), std::pair("removed", 1)}) {
    for (const auto& range : ranges[name]) {
      for (auto c = range[0].get<char32_t>(); c <= range[1].get<char32_t>(); ++c) {
        expected[c] = static_cast<std::size_t>(words);
      }
    }
  }
  int wrong = 0;
  for (char32_t c = 1; c <= 0x323AF; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text = "a";
    append_utf8(text, c);
    const std::u32string normalized = normalize(text + "b", {}).text;
    const std::size_t words = split_words(normalized).size();
    const auto found = expected.find(c);
    const bool good = found == expected.end() ? words == 1 && normalized != U"ab" : words == found->second;
    if (!good && ++wrong <= 10) ADD_FAILURE() << std::hex << "U+" << static_cast<unsigned>(c) << " gives " << words;
  }
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace sinter::data
