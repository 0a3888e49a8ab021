// What a call of the tokenizer may ask for, with the names and defaults of Hugging Face's `tokenizer(...)`.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sinter::data {

/// "do_not_pad" (or false): rows keep their lengths. "longest" (or true): all rows as long as the longest of the call.
/// "max_length": as long as max_length; longer rows stay longer. Error usage for another name.
class Padding {
 public:
  enum Strategy { do_not_pad, longest, max_length };

  Padding(Strategy strategy) : strategy_(strategy) {}
  Padding(std::same_as<bool> auto on) : strategy_(on ? longest : do_not_pad) {}
  Padding(std::string_view name);
  Padding(const char* name) : Padding(std::string_view(name)) {}
  Padding(const std::string& name) : Padding(std::string_view(name)) {}
  operator Strategy() const { return strategy_; }

 private:
  Strategy strategy_;
};

/// "do_not_truncate" (or false). "longest_first" (or true): of a pair the longer text loses first; equally long texts
/// lose alike, and the second keeps the odd token. "only_first", "only_second": that text alone loses, and must keep a
/// token. Error usage for another name.
class Truncation {
 public:
  enum Strategy { do_not_truncate, longest_first, only_first, only_second };

  Truncation(Strategy strategy) : strategy_(strategy) {}
  Truncation(std::same_as<bool> auto on) : strategy_(on ? longest_first : do_not_truncate) {}
  Truncation(std::string_view name);
  Truncation(const char* name) : Truncation(std::string_view(name)) {}
  Truncation(const std::string& name) : Truncation(std::string_view(name)) {}
  operator Strategy() const { return strategy_; }

 private:
  Strategy strategy_;
};

/// The end of a row at which padding is added or tokens are cut off. Error usage for another name.
class Side {
 public:
  enum Name { left, right };

  Side(Name name) : name_(name) {}
  Side(std::string_view name);
  Side(const char* name) : Side(std::string_view(name)) {}
  Side(const std::string& name) : Side(std::string_view(name)) {}
  operator Name() const { return name_; }
  const char* str() const { return name_ == left ? "left" : "right"; }

 private:
  Name name_;
};

/// Not offered: stride and return_overflowing_tokens (what truncation cuts off is dropped), is_split_into_words.
struct TokenizeOptions {
  bool add_special_tokens = true;      ///< [CLS] text [SEP], or [CLS] text [SEP] text_pair [SEP]
  Padding padding = false;
  /// Unset: true where max_length is given and padding is not, else false, as in HF.
  std::optional<Truncation> truncation = std::nullopt;
  /// For truncation and padding "max_length"; counts the special tokens. Unset: the tokenizer's model_max_length; if
  /// that is not known either, neither happens, as in HF.
  std::optional<std::int64_t> max_length = std::nullopt;
  /// Rounds the padded length up; no effect without padding. With truncation, max_length must be a multiple of it.
  std::optional<std::int64_t> pad_to_multiple_of = std::nullopt;
  std::optional<Side> padding_side = std::nullopt;      ///< unset: the tokenizer's
  std::optional<Side> truncation_side = std::nullopt;   ///< unset: the tokenizer's
  bool return_token_type_ids = true;
  bool return_attention_mask = true;
  bool return_special_tokens_mask = false;   ///< 1 for [CLS], [SEP] and [PAD] that the call added
  bool return_offsets_mapping = false;
  bool return_length = false;                ///< padding included, as in HF
  /// Threads of the Runtime that work on a call of many rows, the calling one included; 0: all of them. The result does
  /// not depend on it. A task of the Runtime's own pool must give 1.
  int num_threads = 0;
};

}  // namespace sinter::data
