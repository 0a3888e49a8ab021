#include "data/tokenizer.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>
#include <utility>

#include "core/error.h"
#include "data/utf8.h"

namespace sinter::data {

namespace {

constexpr std::size_t kMaxInputCharsPerWord = 100;
constexpr std::string_view kContinuation = "##";

// How many tokens of a pair stay in `room`: the longer text loses until both are equally long, then both lose alike
// and the longer one keeps the odd token (the second text, if they are equally long).
std::pair<std::size_t, std::size_t> longest_first(std::size_t first, std::size_t second, std::size_t room) {
  if (first + second <= room) return {first, second};
  const std::size_t shorter = std::min({first, second, room / 2});
  const std::size_t longer = room - shorter;
  return first <= second ? std::pair(shorter, longer) : std::pair(longer, shorter);
}

[[noreturn]] void fail_with_errno(const char* what, const std::string& path) {
  fail(ErrorCode::io, what, path, ": ", std::strerror(errno != 0 ? errno : EIO), ".");
}

}  // namespace

BertTokenizer::BertTokenizer(std::vector<std::string> vocabulary, const BertTokenizerOptions& options)
    : options_(options), vocabulary_(std::move(vocabulary)) {
  index_vocabulary();
}

void BertTokenizer::index_vocabulary() {
  if (vocabulary_.empty()) fail(ErrorCode::bad_input, "The vocabulary is empty; it needs one token a line.");
  for (std::size_t i = 0; i < vocabulary_.size(); ++i) {
    const std::string_view token = vocabulary_[i];
    if (token.empty()) {
      fail(ErrorCode::bad_input, "Token ", i, " (line ", i + 1,
           ") of the vocabulary is empty; each line needs a token.");
    }
    if (first_invalid_utf8(token) != token.size()) {
      fail(ErrorCode::bad_input, "Token ", i, " (line ", i + 1, ") of the vocabulary is not valid UTF-8.");
    }
    const bool continues = token.starts_with(kContinuation);
    Index& index = continues ? continuation_ : start_;
    const auto id = static_cast<std::int32_t>(i);
    const auto [entry, added] = index.emplace(token.substr(continues ? kContinuation.size() : 0), id);
    if (!added) {
      fail(ErrorCode::bad_input, "The vocabulary has \"", token, "\" twice, as tokens ", entry->second, " and ", i,
           ".");
    }
    longest_token_ = std::max(longest_token_, token.size());
  }
  for (SpecialToken& special : special_) {
    special.id = find(special.text);
    if (special.id < 0 && special.text != "[MASK]") {
      fail(ErrorCode::bad_input, "The vocabulary has no ", special.text,
           "; BERT needs [PAD], [UNK], [CLS] and [SEP].");
    }
  }
}

BertTokenizer BertTokenizer::from_vocab_file(const std::string& path, const BertTokenizerOptions& options) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    fail(ErrorCode::not_found, "The vocabulary file ", path, " does not exist.");
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::vector<std::string> tokens;
  for (std::string line; std::getline(file, line);) {
    const std::size_t last = line.find_last_not_of(" \t\r\v\f");
    line.resize(last == std::string::npos ? 0 : last + 1);
    tokens.push_back(std::move(line));
  }
  if (!file.eof() || std::filesystem::is_directory(path, ignored)) {
    fail_with_errno("Cannot read the vocabulary file ", path);
  }
  try {
    return BertTokenizer(std::move(tokens), options);
  } catch (const Error& error) {
    throw Error(error.code(), path + ": " + error.what());
  }
}

std::int32_t BertTokenizer::find(std::string_view token) const {
  const bool continues = token.starts_with(kContinuation);
  const Index& index = continues ? continuation_ : start_;
  const auto found = index.find(token.substr(continues ? kContinuation.size() : 0));
  return found == index.end() ? -1 : found->second;
}

std::int32_t BertTokenizer::convert_token_to_id(std::string_view token) const {
  const std::int32_t id = find(token);
  return id < 0 ? unk_token_id() : id;
}

// Cuts the text at the special tokens. All of them start with '[' and none contains another one.
BertTokenizer::Ids BertTokenizer::tokenize(std::string_view text) const {
  Ids ids;
  std::size_t start = 0;
  for (std::size_t at = text.find('['); at != std::string_view::npos; at = text.find('[', at)) {
    const auto* special = std::find_if(std::begin(special_), std::end(special_), [&](const SpecialToken& candidate) {
      return candidate.id >= 0 && text.substr(at).starts_with(candidate.text);
    });
    if (special == std::end(special_)) {
      ++at;
      continue;
    }
    tokenize_ordinary(text.substr(start, at - start), ids);
    ids.push_back(special->id);
    at += special->text.size();
    start = at;
  }
  tokenize_ordinary(text.substr(start), ids);
  return ids;
}

void BertTokenizer::tokenize_ordinary(std::string_view text, Ids& ids) const {
  const std::u32string normalized = normalize(text, options_);
  for (const std::u32string_view word : split_words(normalized)) tokenize_word(word, ids);
}

void BertTokenizer::tokenize_word(std::u32string_view word, Ids& ids) const {
  const std::size_t before = ids.size();
  bool whole = word.size() <= kMaxInputCharsPerWord;
  std::string text;
  for (const char32_t c : whole ? word : std::u32string_view()) append_utf8(text, c);
  const std::string_view rest = text;
  std::size_t start = 0;
  while (whole && start < rest.size()) {
    // Entries are valid UTF-8, so a match can only end between characters.
    const Index& index = start == 0 ? start_ : continuation_;
    std::size_t length = std::min(rest.size() - start, longest_token_);
    auto found = index.find(rest.substr(start, length));
    while (found == index.end() && length > 1) found = index.find(rest.substr(start, --length));
    whole = found != index.end();
    if (!whole) break;
    ids.push_back(found->second);
    start += length;
  }
  if (whole) return;
  ids.resize(before);
  ids.push_back(unk_token_id());
}

Encoding BertTokenizer::build(const Ids& first, const Ids* second) const {
  Encoding encoding;
  Ids& ids = encoding.ids;
  ids.reserve(first.size() + (second != nullptr ? second->size() + 3 : 2));
  ids.push_back(cls_token_id());
  ids.insert(ids.end(), first.begin(), first.end());
  ids.push_back(sep_token_id());
  encoding.token_type_ids.assign(ids.size(), 0);
  if (second != nullptr) {
    ids.insert(ids.end(), second->begin(), second->end());
    ids.push_back(sep_token_id());
    encoding.token_type_ids.resize(ids.size(), 1);
  }
  encoding.attention_mask.assign(ids.size(), 1);
  return encoding;
}

namespace {

// Tokens that fit beside the special ones, or no limit.
std::size_t content_room(const EncodeOptions& options, std::int64_t special_tokens) {
  if (!options.truncation) return static_cast<std::size_t>(-1);
  if (options.max_length < special_tokens) {
    fail(ErrorCode::usage, "max_length is ", options.max_length, "; truncation needs at least ", special_tokens,
         ", the number of special tokens.");
  }
  return static_cast<std::size_t>(options.max_length - special_tokens);
}

}  // namespace

Encoding BertTokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const std::size_t room = content_room(options, 2);
  Ids ids = tokenize(text);
  ids.resize(std::min(ids.size(), room));
  return build(ids, nullptr);
}

Encoding BertTokenizer::encode(std::string_view text, std::string_view text_pair, const EncodeOptions& options) const {
  const std::size_t room = content_room(options, 3);
  Ids first = tokenize(text);
  Ids second = tokenize(text_pair);
  const auto [keep_first, keep_second] = longest_first(first.size(), second.size(), room);
  first.resize(keep_first);
  second.resize(keep_second);
  return build(first, &second);
}

std::vector<Encoding> BertTokenizer::encode_batch(std::span<const std::string> texts, const EncodeOptions& options,
                                                  int threads) const {
  if (threads < 1) fail(ErrorCode::usage, "encode_batch was given ", threads, " threads; it needs at least 1.");
  constexpr std::size_t kChunk = 64;
  std::vector<Encoding> encodings(texts.size());
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&] {
    try {
      for (std::size_t at = next.fetch_add(kChunk); at < texts.size(); at = next.fetch_add(kChunk)) {
        const std::size_t end = std::min(at + kChunk, texts.size());
        for (std::size_t i = at; i < end; ++i) encodings[i] = encode(texts[i], options);
      }
    } catch (...) {
      next = texts.size();
      const std::lock_guard lock(failure_mutex);
      failure = std::current_exception();
    }
  };
  {
    const std::size_t chunks = (texts.size() + kChunk - 1) / kChunk;
    std::vector<std::jthread> others;
    for (std::size_t i = 1; i < std::min(static_cast<std::size_t>(threads), chunks); ++i) others.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);
  return encodings;
}

std::vector<std::string> BertTokenizer::tokens(std::string_view text) const {
  std::vector<std::string> result;
  for (const std::int32_t id : tokenize(text)) result.push_back(vocabulary_[static_cast<std::size_t>(id)]);
  return result;
}

std::string BertTokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  std::string text;
  bool first = true;
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= vocab_size()) {
      fail(ErrorCode::usage, "Id ", id, " is outside the vocabulary of ", vocab_size(), " tokens.");
    }
    const bool special =
        std::any_of(std::begin(special_), std::end(special_), [&](const auto& s) { return s.id == id; });
    if (special && skip_special_tokens) continue;
    const std::string_view token = vocabulary_[static_cast<std::size_t>(id)];
    const bool glued = token.starts_with(kContinuation);
    const bool closes = token == "." || token == "," || token == "!" || token == "?";
    if (!first && !glued && !closes) text += ' ';
    text += token.substr(glued && !first ? kContinuation.size() : 0);
    first = false;
  }
  return text;
}

void BertTokenizer::save_vocabulary(const std::string& path) const {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  for (const std::string& token : vocabulary_) file << token << '\n';
  file.close();
  if (!file) fail_with_errno("Cannot write the vocabulary file ", path);
}

}  // namespace sinter::data
