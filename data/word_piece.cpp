#include "data/word_piece.h"

#include <algorithm>
#include <bit>

#include "core/error.h"
#include "core/io/shown.h"
#include "data/utf8.h"

namespace sinter::data {

namespace {

constexpr std::string_view kContinuation = "##";

// FNV-1a, which gives the hashes of all prefixes of a word in one pass.
constexpr std::uint32_t kSeeds[] = {2166136261u, 84696351u};
std::uint32_t extend_hash(std::uint32_t hash, char byte) {
  return (hash ^ static_cast<unsigned char>(byte)) * 16777619u;
}
std::uint32_t hash_of(std::uint32_t seed, std::string_view text) {
  for (const char byte : text) seed = extend_hash(seed, byte);
  return seed;
}
std::size_t first_slot(std::uint32_t hash) { return hash ^ (hash >> 15); }

}  // namespace

void Word::push_back(char32_t c, std::uint32_t from) {
  count(from);
  if (too_long()) return;
  std::array<char, 4> bytes;
  const std::size_t length = encode_utf8(c, bytes.data());
  for (std::size_t i = 0; i < length; ++i) push_byte(bytes[i], from);
}

WordPiece::WordPiece(std::vector<std::string> vocabulary) : vocabulary_(std::move(vocabulary)) {
  if (vocabulary_.empty()) fail(ErrorCode::bad_input, "The vocabulary is empty; it needs one token a line.");
  slots_.resize(std::bit_ceil(2 * vocabulary_.size()));
  for (std::size_t i = 0; i < vocabulary_.size(); ++i) insert(static_cast<std::int32_t>(i));
}

void WordPiece::insert(std::int32_t id) {
  const std::string_view token = vocabulary_[static_cast<std::size_t>(id)];
  if (token.empty())
    fail(ErrorCode::bad_input, "Token ", id, " (line ", id + 1,
         ") of the vocabulary is empty; each line needs a token.");
  if (first_invalid_utf8(token) != token.size())
    fail(ErrorCode::bad_input, "Token ", id, " (line ", id + 1, ") of the vocabulary is not valid UTF-8.");
  const Part part = token.starts_with(kContinuation) ? continuation : start;
  const std::string_view text = token.substr(part == continuation ? kContinuation.size() : 0);
  const std::uint32_t hash = hash_of(kSeeds[part], text);
  if (const std::int32_t other = find(part, text, hash); other >= 0)
    fail(ErrorCode::bad_input, "The vocabulary has \"", shown(token), "\" twice, as tokens ", other, " and ", id, ".");
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = first_slot(hash) & mask;
  while (slots_[at].id >= 0) at = (at + 1) & mask;
  slots_[at] = {hash, id};
  longest_[part] = std::max(longest_[part], text.size());
}

std::int32_t WordPiece::find(Part part, std::string_view text, std::uint32_t hash) const {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t at = first_slot(hash) & mask; slots_[at].id >= 0; at = (at + 1) & mask) {
    if (slots_[at].hash != hash) continue;
    std::string_view token = vocabulary_[static_cast<std::size_t>(slots_[at].id)];
    if (part == continuation) {
      if (!token.starts_with(kContinuation)) continue;
      token.remove_prefix(kContinuation.size());
    }
    if (token == text) return slots_[at].id;
  }
  return -1;
}

std::int32_t WordPiece::find(std::string_view token) const {
  const Part part = token.starts_with(kContinuation) ? continuation : start;
  const std::string_view text = token.substr(part == continuation ? kContinuation.size() : 0);
  return find(part, text, hash_of(kSeeds[part], text));
}

bool WordPiece::append_pieces(const Word& word, std::vector<Token>& tokens) const {
  const std::string_view text = word.utf8();
  std::array<std::uint32_t, 4 * Word::kMaxCharacters> hashes;   // of the prefixes of what is left
  Part part = start;
  for (std::size_t at = 0; at < text.size(); part = continuation) {
    std::size_t length = std::min(text.size() - at, longest_[part]);
    std::uint32_t hash = kSeeds[part];
    for (std::size_t i = 0; i < length; ++i) hashes[i] = hash = extend_hash(hash, text[at + i]);
    // Entries are valid UTF-8, so a match can only end between characters.
    std::int32_t id = -1;
    for (; length > 0 && id < 0; --length) id = find(part, text.substr(at, length), hashes[length - 1]);
    if (id < 0) return false;
    ++length;   // the loop went one on behind the match
    tokens.push_back({id, word.origin(at), word.origin(at + length - 1) + 1});
    at += length;
  }
  return true;
}

void WordPiece::append_tokens(const Word& word, std::int32_t unknown, std::vector<Token>& tokens) const {
  const std::size_t before = tokens.size();
  if (!word.too_long() && append_pieces(word, tokens)) return;
  tokens.resize(before);
  tokens.push_back({unknown, word.begin(), word.end()});
}

}  // namespace sinter::data
