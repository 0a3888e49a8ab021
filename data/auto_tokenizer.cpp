#include "data/auto_tokenizer.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/hub_cache.h"
#include "core/io/json.h"
#include "data/tokenizer_json.h"

namespace sinter::data {

namespace {

constexpr double kNotKnown = 1e20;   // HF writes 10^30 for a model_max_length that it does not know

Json load_or_empty(const std::filesystem::path& path) {
  return std::filesystem::exists(path) ? Json::load(path) : Json::object();
}

/// Whether transformers would build its BertTokenizer, which takes its options from tokenizer_config.json alone.
bool is_bert_class(const std::filesystem::path& folder, const Json& config) {
  const auto name = config.get_or<std::string>("tokenizer_class", "");
  if (name == "BertTokenizer" || name == "BertTokenizerFast") return true;
  if (name == "PreTrainedTokenizerFast" || name == "TokenizersBackend") return false;
  if (!name.empty())
    fail(ErrorCode::unsupported, (folder / "tokenizer_config.json").string(), ": tokenizer_class is \"", name,
         "\"; sinter has BertTokenizer.");
  return load_or_empty(folder / "config.json").get_or<std::string>("model_type", "") == "bert";
}

/// A special token is a text, or an object with its `content`.
std::string token_name(const Json& value, const std::string& source) {
  return value.is_object() ? read_added_token(value, 0, source).content : value.as<std::string>();
}

void read_names(const Json& file, const std::string& source, BertTokenizerOptions& options) {
  const auto read = [&](const char* key, std::string& name) {
    if (const Json* value = file.find(key); value && !value->is_null()) name = token_name(*value, source);
  };
  read("unk_token", options.unk_token);
  read("sep_token", options.sep_token);
  read("pad_token", options.pad_token);
  read("cls_token", options.cls_token);
  read("mask_token", options.mask_token);
}

void read_sides_and_length(const Json& config, BertTokenizerOptions& options) {
  const auto side = [&](const char* key) -> Side {
    const auto name = config.get_or<std::string>(key, "right");
    if (name != "left" && name != "right") config.refuse(key, "be \"left\" or \"right\"");
    return name;
  };
  options.padding_side = side("padding_side");
  options.truncation_side = side("truncation_side");
  if (config.get_or("model_max_length", kNotKnown) < kNotKnown)
    options.model_max_length = config.get<std::int64_t>("model_max_length", 1);
}

void read_normalizer_options(const Json& config, BertTokenizerOptions& options) {
  options.do_lower_case = config.get_or("do_lower_case", true);
  options.tokenize_chinese_chars = config.get_or("tokenize_chinese_chars", true);
  const Json* strip = config.find("strip_accents");
  options.strip_accents = strip && !strip->is_null() ? std::optional(strip->as<bool>()) : std::nullopt;
}

/// Replaces the added token with the same id, or adds one.
void add(const AddedToken& token, BertTokenizerOptions& options) {
  const auto same = [&](const AddedToken& other) { return other.id == token.id && other.content == token.content; };
  std::erase_if(options.added_tokens, same);
  options.added_tokens.push_back(token);
}

void read_added_tokens_decoder(const Json& decoder, const std::string& source, BertTokenizerOptions& options) {
  for (const auto& [key, entry] : decoder.items()) {
    std::int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc{} || end != key.data() + key.size()) decoder.refuse(key, "have an id as its key");
    add(read_added_token(entry, id, source), options);
  }
}

/// The older form: {"token": id}. A token is special when one of the five names it.
void read_added_tokens_file(const Json& file, BertTokenizerOptions& options) {
  for (const auto& [content, value] : file.items()) {
    const bool special = content == options.unk_token || content == options.sep_token ||
                         content == options.pad_token || content == options.cls_token || content == options.mask_token;
    const auto id = static_cast<std::int32_t>(file.get<std::int64_t>(content, 0, INT32_MAX));
    add({.content = content, .id = id, .special = special, .normalized = !special}, options);
  }
}

/// Special tokens beside the five: in the vocabulary already, or behind it in their order.
void read_extra_special_tokens(const Json& config, const std::string& source, TokenizerParts& parts) {
  const Json* extra = config.find("extra_special_tokens");
  if (!extra || extra->is_null()) extra = config.find("additional_special_tokens");
  if (!extra || extra->is_null() || (extra->is_object() && extra->size() == 0)) return;
  std::vector<AddedToken>& added = parts.options.added_tokens;
  for (const Json& value : extra->elements()) {
    const std::string content = token_name(value, source);
    const auto same = [&](const AddedToken& token) { return token.content == content; };
    if (std::any_of(added.begin(), added.end(), same)) continue;
    const auto known = std::find(parts.vocabulary.begin(), parts.vocabulary.end(), content);
    std::int64_t id = known - parts.vocabulary.begin();
    if (known == parts.vocabulary.end())
      for (const AddedToken& token : added) id = std::max(id, std::int64_t{token.id} + 1);
    added.push_back({.content = content, .id = static_cast<std::int32_t>(id)});
  }
}

TokenizerParts read_parts(const std::filesystem::path& folder) {
  const std::string source = (folder / "tokenizer_config.json").string();
  const Json config = load_or_empty(source);
  const bool has_json = std::filesystem::exists(folder / "tokenizer.json");
  TokenizerParts parts;
  if (has_json)
    parts = read_tokenizer_json(folder / "tokenizer.json");
  else
    parts.vocabulary = read_vocabulary_file((folder / "vocab.txt").string());
  if (is_bert_class(folder, config) || !has_json) read_normalizer_options(config, parts.options);
  read_sides_and_length(config, parts.options);
  read_names(config, source, parts.options);
  if (config.contains("added_tokens_decoder")) {
    read_added_tokens_decoder(config.at("added_tokens_decoder"), source, parts.options);
  } else {
    const std::string map = (folder / "special_tokens_map.json").string();
    read_names(load_or_empty(map), map, parts.options);
    read_added_tokens_file(load_or_empty(folder / "added_tokens.json"), parts.options);
  }
  read_extra_special_tokens(config, source, parts);
  return parts;
}

}  // namespace

BertTokenizer AutoTokenizer::from_pretrained(const std::string& name_or_path) {
  const std::filesystem::path folder = resolve_pretrained(name_or_path, {"tokenizer.json", "vocab.txt"});
  TokenizerParts parts = read_parts(folder);
  try {
    return BertTokenizer(std::move(parts.vocabulary), parts.options);
  } catch (const Error& error) {
    const bool has_json = std::filesystem::exists(folder / "tokenizer.json");
    throw Error(error.code(), (folder / (has_json ? "tokenizer.json" : "vocab.txt")).string() + ": " + error.what());
  }
}

std::vector<std::pair<std::string, std::string>> BertTokenizer::pretrained_files() const {
  constexpr JsonStyle kSorted{.sort_keys = true};
  const BertTokenizerOptions& options = this->options();
  Json special_tokens = Json::object({{"cls_token", options.cls_token},
                                      {"pad_token", options.pad_token},
                                      {"sep_token", options.sep_token},
                                      {"unk_token", options.unk_token}});
  // HF gives a tokenizer without a [MASK] a new one behind the vocabulary, unless the file says that there is none.
  special_tokens.set("mask_token", mask_token_id() < 0 ? Json() : Json(options.mask_token));
  Json config = special_tokens;
  config.set("do_lower_case", options.do_lower_case);
  config.set("model_max_length", options.model_max_length ? Json(*options.model_max_length) : Json(1e30));
  config.set("padding_side", options.padding_side.str());
  config.set("strip_accents", options.strip_accents ? Json(*options.strip_accents) : Json());
  config.set("tokenize_chinese_chars", options.tokenize_chinese_chars);
  config.set("tokenizer_class", "BertTokenizer");
  config.set("truncation_side", options.truncation_side.str());
  return {{"tokenizer.json", tokenizer_json(*this).dump() + "\n"},
          {"tokenizer_config.json", config.dump(kSorted) + "\n"},
          {"special_tokens_map.json", special_tokens.dump(kSorted) + "\n"},
          {"vocab.txt", vocabulary_text()}};
}

void BertTokenizer::save_pretrained(const std::filesystem::path& folder) const {
  create_folders(folder);
  for (const auto& [name, content] : pretrained_files()) write_file_atomically(folder / name, content);
}

}  // namespace sinter::data
