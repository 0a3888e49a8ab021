#include "data/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/shown.h"
#include "data/tokenizer_tables.h"
#include "data/utf8.h"

namespace sinter::data {

namespace {

constexpr std::size_t kMaxVocabularyBytes = std::size_t{64} << 20;

bool is_ascii(std::string_view text) {
  // Eight bytes at a time; the check must cost less than the words that it speeds up.
  std::uint64_t seen = 0;
  for (; text.size() >= 8; text.remove_prefix(8)) {
    std::uint64_t eight;
    std::memcpy(&eight, text.data(), 8);
    seen |= eight;
  }
  for (const char c : text) seen |= static_cast<unsigned char>(c);
  return (seen & 0x8080808080808080u) == 0;
}

std::uint32_t count_characters(std::string_view text) {
  std::uint32_t count = 0;
  for (; !text.empty(); ++count) text.remove_prefix(decode_utf8(text).length);
  return count;
}

}  // namespace

BertTokenizer::Tables::Tables(std::vector<std::string> vocabulary, const BertTokenizerOptions& given)
    : options(given),
      normalizer{given.do_lower_case, given.strip_accents, given.tokenize_chinese_chars},
      word_piece(std::move(vocabulary)),
      added(given.added_tokens) {
  for (std::size_t c = 0; c < ascii_.size(); ++c)
    ascii_[c] = {normalize_ascii(static_cast<char>(c), options.do_lower_case), cuts_word(static_cast<char32_t>(c))};
  const auto by_id = [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; };
  std::stable_sort(added.begin(), added.end(), by_id);
  check_added_tokens();
  add_named_tokens();
  std::stable_sort(added.begin(), added.end(), by_id);
  is_special.assign(std::max(word_piece.vocabulary().size(), static_cast<std::size_t>(added.back().id) + 1), false);
  for (const AddedToken& token : added) {
    is_special[static_cast<std::size_t>(token.id)] = token.special;
    if (!token.normalized) {
      raw_.add(token.content, token.id);
      continue;
    }
    const std::u32string pattern = normalize(token.content, normalizer).text;
    if (pattern.empty())
      fail(ErrorCode::bad_input, "The added token \"", shown(token.content), "\" is nothing after normalization.");
    normalized_.add(pattern, token.id);
  }
}

// Ids within the vocabulary name its entries, the others follow it without a hole.
void BertTokenizer::Tables::check_added_tokens() const {
  const std::vector<std::string>& vocabulary = word_piece.vocabulary();
  std::size_t next = vocabulary.size();
  for (std::size_t i = 0; i < added.size(); ++i) {
    const AddedToken& token = added[i];
    if (token.content.empty() || first_invalid_utf8(token.content) != token.content.size())
      fail(ErrorCode::bad_input, "The added token with id ", token.id, " is empty or not valid UTF-8.");
    if (i > 0 && added[i - 1].id == token.id)
      fail(ErrorCode::bad_input, "The added tokens \"", shown(added[i - 1].content), "\" and \"", shown(token.content),
           "\" both have id ", token.id, ".");
    if (token.id < 0 || static_cast<std::size_t>(token.id) > next)
      fail(ErrorCode::bad_input, "The added token \"", shown(token.content), "\" has id ", token.id,
           "; the next free id is ", next, ".");
    const std::int32_t in_vocabulary = word_piece.find(token.content);
    if (static_cast<std::size_t>(token.id) < vocabulary.size()) {
      if (in_vocabulary != token.id)
        fail(ErrorCode::bad_input, "The added token \"", shown(token.content), "\" has id ", token.id,
             ", which the vocabulary gives to \"", shown(vocabulary[static_cast<std::size_t>(token.id)]), "\".");
      continue;
    }
    ++next;
    const auto same = [&](const AddedToken& other) { return other.content == token.content; };
    const auto other = std::find_if(added.begin(), added.end(), same);
    if (in_vocabulary >= 0 || other->id != token.id)
      fail(ErrorCode::bad_input, "The added token \"", shown(token.content), "\" has two ids, ",
           in_vocabulary >= 0 ? in_vocabulary : other->id, " and ", token.id, ".");
  }
}

void BertTokenizer::Tables::add_named_tokens() {
  const auto add = [&](const char* role, const std::string& content, bool required) -> std::int32_t {
    const std::int32_t id = find(content);
    if (id < 0 && required)
      fail(ErrorCode::bad_input, "The vocabulary has no ", shown(content), ", the tokenizer's ", role,
           "; BERT needs cls_token, sep_token, pad_token and unk_token.");
    const auto listed = [&](const AddedToken& token) { return token.id == id; };
    if (id >= 0 && std::none_of(added.begin(), added.end(), listed)) added.push_back({.content = content, .id = id});
    return id;
  };
  pad = add("pad_token", options.pad_token, true);
  unk = add("unk_token", options.unk_token, true);
  cls = add("cls_token", options.cls_token, true);
  sep = add("sep_token", options.sep_token, true);
  mask = add("mask_token", options.mask_token, false);
}

std::int32_t BertTokenizer::Tables::find(std::string_view token) const {
  const std::int32_t id = word_piece.find(token);
  if (id >= 0) return id;
  const auto found =
      std::find_if(added.begin(), added.end(), [&](const AddedToken& candidate) { return candidate.content == token; });
  return found == added.end() ? -1 : found->id;
}

void BertTokenizer::Tables::append_tokens(std::string_view text, std::vector<Token>& tokens) const {
  if (text.size() > INT32_MAX)
    fail(ErrorCode::usage, "A text has ", text.size(), " bytes; the tokenizer takes at most ", INT32_MAX, ".");
  std::uint32_t character = 0;   // number of the one at `at`
  std::size_t at = 0;
  while (const auto match = raw_.find(text, at)) {
    append_ordinary(text.substr(at, match->begin - at), character, tokens);
    character += count_characters(text.substr(at, match->begin - at));
    const std::uint32_t end = character + count_characters(text.substr(match->begin, match->end - match->begin));
    tokens.push_back({match->id, character, end});
    character = end;
    at = match->end;
  }
  append_ordinary(text.substr(at), character, tokens);
}

void BertTokenizer::Tables::append_ordinary(std::string_view text, std::uint32_t first,
                                            std::vector<Token>& tokens) const {
  if (!normalized_.empty()) return append_with_normalized_tokens(normalize(text, normalizer, first), tokens);
  if (is_ascii(text)) return append_ascii(text, first, tokens);
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find(' '));
    if (is_ascii(part)) {
      append_ascii(part, first, tokens);
    } else {
      const TracedText normal = normalize(part, normalizer, first);
      append_words(normal, 0, normal.text.size(), tokens);
    }
    first += count_characters(part) + 1;
    text.remove_prefix(std::min(part.size() + 1, text.size()));
  }
}

// ASCII needs no table of Unicode, no decomposition and no ideographs; nearly all English text comes this way.
void BertTokenizer::Tables::append_ascii(std::string_view text, std::uint32_t first, std::vector<Token>& tokens) const {
  Word word;
  const auto finish_word = [&] {
    if (!word.empty()) word_piece.append_tokens(word, unk, tokens);
    word.clear();
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    const AsciiCharacter c = ascii_[static_cast<unsigned char>(text[i])];
    if (c.normalized == 0) continue;
    if (c.cuts || c.normalized == ' ') finish_word();
    if (c.normalized == ' ') continue;
    word.push_ascii(c.normalized, first + static_cast<std::uint32_t>(i));
    if (c.cuts) finish_word();
  }
  finish_word();
}

void BertTokenizer::Tables::append_words(const TracedText& text, std::size_t begin, std::size_t end,
                                         std::vector<Token>& tokens) const {
  Word word;
  for (const std::u32string_view part : split_words(std::u32string_view(text.text).substr(begin, end - begin))) {
    word.clear();
    const std::uint32_t* from = text.origin.data() + (part.data() - text.text.data());
    for (const char32_t c : part) word.push_back(c, *from++);
    word_piece.append_tokens(word, unk, tokens);
  }
}

void BertTokenizer::Tables::append_with_normalized_tokens(const TracedText& text, std::vector<Token>& tokens) const {
  std::size_t at = 0;
  while (const auto match = normalized_.find(text.text, at)) {
    append_words(text, at, match->begin, tokens);
    tokens.push_back({match->id, text.origin[match->begin], text.origin[match->end - 1] + 1});
    at = match->end;
  }
  append_words(text, at, text.text.size(), tokens);
}

BertTokenizer::BertTokenizer(std::vector<std::string> vocabulary, const BertTokenizerOptions& options)
    : tables_(std::make_shared<const Tables>(std::move(vocabulary), options)) {}

std::vector<std::string> read_vocabulary_file(const std::string& path) {
  if (!std::filesystem::exists(path)) fail(ErrorCode::not_found, "The vocabulary file ", path, " does not exist.");
  const std::string text = read_file(path, kMaxVocabularyBytes);
  std::vector<std::string> tokens;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    line.resize(line.find_last_not_of(" \t\r\v\f") + 1);   // npos + 1 is 0
    tokens.push_back(std::move(line));
    at = end + 1;
  }
  return tokens;
}

BertTokenizer BertTokenizer::from_vocab_file(const std::string& path, const BertTokenizerOptions& options) {
  std::vector<std::string> tokens = read_vocabulary_file(path);
  try {
    return BertTokenizer(std::move(tokens), options);
  } catch (const Error& error) {
    throw Error(error.code(), path + ": " + error.what());
  }
}

std::vector<std::string> BertTokenizer::tokens(std::string_view text) const {
  std::vector<Token> found;
  tables_->append_tokens(text, found);
  std::vector<std::string> result;
  result.reserve(found.size());
  for (const Token& token : found) result.push_back(convert_id_to_token(token.id));
  return result;
}

std::string BertTokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  static constexpr std::string_view kClosing[] = {".", ",", "!", "?", "n't", "'m", "'s", "'ve", "'re"};
  std::string text;
  bool first = true;
  for (const std::int32_t id : ids) {
    const std::string_view token = convert_id_to_token(id);
    if (skip_special_tokens && tables_->is_special[static_cast<std::size_t>(id)]) continue;
    const bool glued = token.starts_with("##");
    const bool closes = std::any_of(std::begin(kClosing), std::end(kClosing),
                                    [&](std::string_view closing) { return token.starts_with(closing); });
    if (!first && !glued && !closes) text += ' ';
    text += token.substr(glued && !first ? 2 : 0);
    first = false;
  }
  return text;
}

std::string BertTokenizer::vocabulary_text() const {
  std::string text;
  for (const std::string& token : vocabulary()) text.append(token).push_back('\n');
  return text;
}

void BertTokenizer::save_vocabulary(const std::string& path) const { write_file_atomically(path, vocabulary_text()); }

std::int64_t BertTokenizer::size() const { return static_cast<std::int64_t>(tables_->is_special.size()); }
const std::vector<std::string>& BertTokenizer::vocabulary() const { return tables_->word_piece.vocabulary(); }
const BertTokenizerOptions& BertTokenizer::options() const { return tables_->options; }
const std::vector<AddedToken>& BertTokenizer::added_tokens() const { return tables_->added; }

const std::string& BertTokenizer::convert_id_to_token(std::int32_t id) const {
  if (id < 0 || id >= size()) fail(ErrorCode::usage, "Id ", id, " is outside the vocabulary of ", size(), " tokens.");
  if (id < vocab_size()) return vocabulary()[static_cast<std::size_t>(id)];
  // The added tokens behind the vocabulary are the last ones, without a hole.
  return tables_->added[tables_->added.size() - static_cast<std::size_t>(size() - id)].content;
}

std::int32_t BertTokenizer::convert_token_to_id(std::string_view token) const {
  const std::int32_t id = tables_->find(token);
  return id < 0 ? unk_token_id() : id;
}

std::int32_t BertTokenizer::pad_token_id() const { return tables_->pad; }
std::int32_t BertTokenizer::unk_token_id() const { return tables_->unk; }
std::int32_t BertTokenizer::cls_token_id() const { return tables_->cls; }
std::int32_t BertTokenizer::sep_token_id() const { return tables_->sep; }
std::int32_t BertTokenizer::mask_token_id() const { return tables_->mask; }

}  // namespace sinter::data
