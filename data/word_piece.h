// The second half of BERT's tokenizer: from words to entries of the vocabulary.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace sinter::data {

/// An entry of the vocabulary found in a text: id, and the characters [begin, end) of the text that it stands for.
struct Token {
  std::int32_t id = 0;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

/// One word, gathered character by character. `from` numbers the characters of the text that the word came from.
class Word {
 public:
  static constexpr std::size_t kMaxCharacters = 100;   ///< HF's max_input_chars_per_word

  void clear() { size_ = characters_ = 0; }
  bool empty() const { return characters_ == 0; }
  /// A longer word is one unknown token, whatever it holds; only its borders are kept.
  bool too_long() const { return characters_ > kMaxCharacters; }

  void push_back(char32_t c, std::uint32_t from);
  /// The same for an ASCII character, which nearly all are.
  void push_ascii(char c, std::uint32_t from) {
    count(from);
    if (!too_long()) push_byte(c, from);
  }

  std::string_view utf8() const { return {bytes_.data(), size_}; }   ///< of a word that is not too long
  std::uint32_t begin() const { return begin_; }
  std::uint32_t end() const { return end_; }
  std::uint32_t origin(std::size_t byte) const { return origin_[byte]; }

 private:
  void count(std::uint32_t from) {
    if (characters_++ == 0) begin_ = from;
    end_ = from + 1;
  }
  void push_byte(char byte, std::uint32_t from) {
    bytes_[size_] = byte;
    origin_[size_++] = from;
  }

  std::array<char, 4 * kMaxCharacters> bytes_;
  std::array<std::uint32_t, 4 * kMaxCharacters> origin_;   // of each byte
  std::size_t size_ = 0;
  std::size_t characters_ = 0;
  std::uint32_t begin_ = 0, end_ = 0;
};

/// The vocabulary, indexed for WordPiece.
class WordPiece {
 public:
  /// `vocabulary`: token i has id i. Error bad_input for an empty vocabulary, an entry that is empty or no UTF-8, or
  /// one that is there twice.
  explicit WordPiece(std::vector<std::string> vocabulary);

  const std::vector<std::string>& vocabulary() const { return vocabulary_; }
  /// Id of an entry as it is written, "##ing" for a continuation; -1 if there is none.
  std::int32_t find(std::string_view token) const;
  /// Appends the tokens of a word: the longest entry that starts it, then again with "##" before the rest. A word that
  /// cannot be cut to the end, or is too long, is one token `unknown`. Allocates nothing but room in `tokens`.
  void append_tokens(const Word& word, std::int32_t unknown, std::vector<Token>& tokens) const;

 private:
  // An entry stands under the hash of its text without "##"; the seeds keep starts and continuations apart.
  enum Part { start, continuation };
  struct Slot {
    std::uint32_t hash = 0;
    std::int32_t id = -1;   // of a free slot
  };

  void insert(std::int32_t id);
  std::int32_t find(Part part, std::string_view text, std::uint32_t hash) const;
  bool append_pieces(const Word& word, std::vector<Token>& tokens) const;

  std::vector<std::string> vocabulary_;
  std::vector<Slot> slots_;   // open addressing, linear probing, at most half full; a power of two
  std::array<std::size_t, 2> longest_ = {0, 0};   // bytes, without "##"; no longer prefix of a word needs a look-up
};

}  // namespace sinter::data
