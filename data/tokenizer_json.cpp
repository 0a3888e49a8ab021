#include "data/tokenizer_json.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/io/shown.h"
#include "data/word_piece.h"

namespace sinter::data {

namespace {

constexpr const char* kPrefix = "##";

// cls_token and sep_token with their ids.
struct TemplateTokens {
  std::string cls, sep;
  std::int64_t cls_id = -1, sep_id = -1;
};

Json special_piece(const std::string& token, int type) {
  return Json::object({{"SpecialToken", Json::object({{"id", token}, {"type_id", type}})}});
}
Json sequence_piece(const char* name, int type) {
  return Json::object({{"Sequence", Json::object({{"id", name}, {"type_id", type}})}});
}
Json special_token(const std::string& token, std::int64_t id) {
  return Json::object({{"id", token}, {"ids", Json::array({id})}, {"tokens", Json::array({token})}});
}

// [CLS] A [SEP], or [CLS] A [SEP] B [SEP] with type 1 for what follows the first [SEP].
Json bert_template(const TemplateTokens& t) {
  Json single = Json::array({special_piece(t.cls, 0), sequence_piece("A", 0), special_piece(t.sep, 0)});
  Json pair = single;
  pair.push_back(sequence_piece("B", 1));
  pair.push_back(special_piece(t.sep, 1));
  return Json::object({{"type", "TemplateProcessing"},
                       {"single", std::move(single)},
                       {"pair", std::move(pair)},
                       {"special_tokens", Json::object({{t.cls, special_token(t.cls, t.cls_id)},
                                                        {t.sep, special_token(t.sep, t.sep_id)}})}});
}

Json bert_processing(const TemplateTokens& t) {
  return Json::object(
      {{"type", "BertProcessing"}, {"sep", Json::array({t.sep, t.sep_id})}, {"cls", Json::array({t.cls, t.cls_id})}});
}

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : source_(path.string()), file_(Json::load(path)) {}

  TokenizerParts read() {
    read_model(object(file_, "model"));
    read_normalizer(object(file_, "normalizer"));
    require(object(file_, "pre_tokenizer"), "pre_tokenizer.", "type", "BertPreTokenizer");
    if (const Json* decoder = file_.find("decoder"); decoder && !decoder->is_null()) {
      require(*decoder, "decoder.", "type", "WordPiece");
      require(*decoder, "decoder.", "prefix", kPrefix);
      require(*decoder, "decoder.", "cleanup", true);
    }
    if (const Json* added = file_.find("added_tokens"); added && !added->is_null())
      for (const Json& entry : added->elements())
        parts_.options.added_tokens.push_back(read_added_token(entry, entry.get<std::int64_t>("id"), source_));
    read_template(object(file_, "post_processor"));
    return std::move(parts_);
  }

 private:
  static const Json& object(const Json& parent, const char* key) {
    if (!parent.at(key).is_object()) parent.refuse(key, "be an object");
    return parent.at(key);
  }

  /// Error unsupported: tokenizer.json: model.type is "BPE"; sinter's BERT tokenizer reads only "WordPiece".
  void require(const Json& object, const char* path, const char* key, const Json& only) const {
    const Json* value = object.find(key);
    if (value && *value == only) return;
    fail(ErrorCode::unsupported, source_, ": ", path, key, " is ",
         value ? shown(value->dump({.indent = -1})) : "missing",
         "; sinter's BERT tokenizer reads only ", only.dump({.indent = -1}), ".");
  }

  void read_model(const Json& model) {
    if (model.contains("type")) require(model, "model.", "type", "WordPiece");
    require(model, "model.", "continuing_subword_prefix", kPrefix);
    require(model, "model.", "max_input_chars_per_word", static_cast<std::int64_t>(Word::kMaxCharacters));
    parts_.options.unk_token = model.get<std::string>("unk_token");
    read_vocabulary(object(model, "vocab"));
  }

  void read_vocabulary(const Json& vocab) {
    std::vector<std::string>& tokens = parts_.vocabulary;
    tokens.resize(vocab.size());
    for (const auto& [token, id] : vocab.items()) {
      const auto at = id.as<std::int64_t>();
      if (at < 0 || at >= static_cast<std::int64_t>(tokens.size()))
        fail(ErrorCode::bad_input, source_, ": model.vocab gives \"", shown(token), "\" the id ", at, ", but has ",
             tokens.size(), " tokens; ids must run from 0 without a hole.");
      std::string& place = tokens[static_cast<std::size_t>(at)];
      if (token.empty()) fail(ErrorCode::bad_input, source_, ": model.vocab has an empty token, with id ", at, ".");
      if (!place.empty())
        fail(ErrorCode::bad_input, source_, ": model.vocab gives id ", at, " twice, to \"", shown(place), "\" and \"",
             shown(token), "\".");
      place = token;   // with as many ids as places and none twice, no place stays empty
    }
  }

  void read_normalizer(const Json& normalizer) {
    require(normalizer, "normalizer.", "type", "BertNormalizer");
    require(normalizer, "normalizer.", "clean_text", true);
    parts_.options.do_lower_case = normalizer.get<bool>("lowercase");
    parts_.options.tokenize_chinese_chars = normalizer.get<bool>("handle_chinese_chars");
    const Json* strip = normalizer.find("strip_accents");
    if (strip && !strip->is_null()) parts_.options.strip_accents = strip->as<bool>();
  }

  // Takes the tokens' names from the template, then compares it as a whole with BERT's.
  void read_template(const Json& processor) {
    TemplateTokens t;
    const bool old = processor.get<std::string>("type") == "BertProcessing";
    if (old) {
      t.sep = first_element(processor.at("sep")).as<std::string>();
      t.cls = first_element(processor.at("cls")).as<std::string>();
    } else {
      require(processor, "post_processor.", "type", "TemplateProcessing");
      const Json& single = processor.at("single");
      t.cls = first_element(single).at("SpecialToken").get<std::string>("id");
      t.sep = single.elements().back().at("SpecialToken").get<std::string>("id");
    }
    t.cls_id = id_of(t.cls);
    t.sep_id = id_of(t.sep);
    if (processor != (old ? bert_processing(t) : bert_template(t)))
      fail(ErrorCode::unsupported, source_, ": post_processor is not BERT's ", t.cls, " A ", t.sep, " B ", t.sep,
           " with token types 0 and 1 and the vocabulary's ids; sinter reads no other.");
    parts_.options.cls_token = t.cls;
    parts_.options.sep_token = t.sep;
  }

  const Json& first_element(const Json& array) const {
    if (array.size() > 0) return array.elements()[0];
    fail(ErrorCode::bad_input, source_, ": an array of post_processor is empty.");
  }

  std::int64_t id_of(const std::string& token) const {
    for (const AddedToken& added : parts_.options.added_tokens)
      if (added.content == token) return added.id;
    const auto found = std::find(parts_.vocabulary.begin(), parts_.vocabulary.end(), token);
    return found == parts_.vocabulary.end() ? -1 : found - parts_.vocabulary.begin();
  }

  std::string source_;
  Json file_;
  TokenizerParts parts_;
};

}  // namespace

AddedToken read_added_token(const Json& entry, std::int64_t id, const std::string& source) {
  AddedToken token{.content = entry.get<std::string>("content"),
                   .special = entry.get_or("special", true),
                   .normalized = entry.get_or("normalized", false)};
  if (id < 0 || id > std::numeric_limits<std::int32_t>::max())
    fail(ErrorCode::bad_input, source, ": The added token \"", shown(token.content), "\" has id ", id,
         "; ids run from 0 to 2^31 - 1.");
  token.id = static_cast<std::int32_t>(id);
  for (const char* key : {"single_word", "lstrip", "rstrip"})
    if (entry.get_or(key, false))
      fail(ErrorCode::unsupported, source, ": The added token \"", shown(token.content), "\" has ", key,
           ", which sinter's BERT tokenizer does not do.");
  return token;
}

TokenizerParts read_tokenizer_json(const std::filesystem::path& path) { return Reader(path).read(); }

Json tokenizer_json(const BertTokenizer& tokenizer) {
  const BertTokenizerOptions& options = tokenizer.options();
  Json added = Json::array();
  for (const AddedToken& token : tokenizer.added_tokens())
    added.push_back(Json::object({{"id", token.id},
                                  {"content", token.content},
                                  {"single_word", false},
                                  {"lstrip", false},
                                  {"rstrip", false},
                                  {"normalized", token.normalized},
                                  {"special", token.special}}));
  Json vocab = Json::object();
  std::int32_t id = 0;
  for (const std::string& token : tokenizer.vocabulary()) vocab.set(token, id++);
  Json model = Json::object({{"type", "WordPiece"},
                             {"unk_token", options.unk_token},
                             {"continuing_subword_prefix", kPrefix},
                             {"max_input_chars_per_word", static_cast<std::int64_t>(Word::kMaxCharacters)}});
  model.set("vocab", std::move(vocab));
  Json file = Json::object(
      {{"version", "1.0"},
       {"truncation", nullptr},
       {"padding", nullptr},
       {"added_tokens", std::move(added)},
       {"normalizer", Json::object({{"type", "BertNormalizer"},
                                    {"clean_text", true},
                                    {"handle_chinese_chars", options.tokenize_chinese_chars},
                                    {"strip_accents", options.strip_accents ? Json(*options.strip_accents) : Json()},
                                    {"lowercase", options.do_lower_case}})},
       {"pre_tokenizer", Json::object({{"type", "BertPreTokenizer"}})},
       {"post_processor", bert_template({options.cls_token, options.sep_token, tokenizer.cls_token_id(),
                                          tokenizer.sep_token_id()})},
       {"decoder", Json::object({{"type", "WordPiece"}, {"prefix", kPrefix}, {"cleanup", true}})}});
  file.set("model", std::move(model));
  return file;
}

}  // namespace sinter::data
