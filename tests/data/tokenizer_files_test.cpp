// Tokenizers on disk: what AutoTokenizer reads, what save_pretrained writes, and what is refused. How transformers
// reads the same folders is compared by tests/tools/tokenizer_interop.py.

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/json.h"
#include "data/auto_tokenizer.h"
#include "tests/core/expect_error.h"

namespace sinter::data {
namespace {

using Ids = std::vector<std::int32_t>;
using Words = std::vector<std::string>;
using testing::expect_error;

const Words kVocabulary = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "Hello", "e", "\u00E9", "##s", "new"};

class TokenizerFiles : public ::testing::Test {
 protected:
  TokenizerFiles()
      : folder_(std::filesystem::path(::testing::TempDir()) / ("sinter_tokenizer_" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(folder_);
    create_folders(folder_);
  }
  ~TokenizerFiles() override { std::filesystem::remove_all(folder_); }

  void write(const char* name, const std::string& text) { write_file_atomically(folder_ / name, text); }
  void write(const char* name, const Json& json) { json.save(folder_ / name); }
  BertTokenizer load() const { return AutoTokenizer::from_pretrained(folder_.string()); }

  /// A tokenizer.json of kVocabulary, uncased.
  Json tokenizer_json() {
    BertTokenizer(kVocabulary).save_pretrained(folder_ / "base");
    Json json = Json::load(folder_ / "base" / "tokenizer.json");
    std::filesystem::remove_all(folder_ / "base");
    return json;
  }
  /// The same with one field changed: change({"model", "type"}, "BPE").
  static Json change(Json json, const Words& path, Json value) {
    const Words rest(path.begin() + 1, path.end());
    if (!rest.empty()) value = change(json.at(path[0]), rest, std::move(value));
    json.set(path[0], std::move(value));
    return json;
  }
  static Json added_token(std::int64_t id, const std::string& content) {
    return Json::object({{"id", id}, {"content", content}});
  }

  std::filesystem::path folder_;
};

TEST_F(TokenizerFiles, SavedAndLoaded) {
  const BertTokenizer tokenizer(kVocabulary,
                                {.do_lower_case = false,
                                 .strip_accents = true,
                                 .tokenize_chinese_chars = false,
                                 .model_max_length = 77,
                                 .padding_side = "left",
                                 .truncation_side = "left",
                                 .added_tokens = {{.content = "<e>", .id = 11, .special = false, .normalized = true}}});
  tokenizer.save_pretrained(folder_ / "a" / "b");
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"})
    EXPECT_TRUE(std::filesystem::exists(folder_ / "a" / "b" / name)) << name;
  const BertTokenizer loaded = AutoTokenizer::from_pretrained((folder_ / "a" / "b").string());
  EXPECT_EQ(loaded.vocabulary(), kVocabulary);
  EXPECT_EQ(loaded.size(), 12);
  EXPECT_FALSE(loaded.options().do_lower_case);
  EXPECT_EQ(loaded.options().strip_accents, true);
  EXPECT_FALSE(loaded.options().tokenize_chinese_chars);
  EXPECT_EQ(loaded.options().model_max_length, 77);
  EXPECT_EQ(loaded.options().padding_side, Side::left);
  EXPECT_EQ(loaded.options().truncation_side, Side::left);
  EXPECT_EQ(loaded.encode("Hello<e>\u00E9").ids, tokenizer.encode("Hello<e>\u00E9").ids);
  EXPECT_EQ(loaded.encode("Hello<e>\u00E9").ids, (Ids{2, 6, 11, 7, 3}));
}

TEST_F(TokenizerFiles, WithoutMask) {
  const Words vocabulary(kVocabulary.begin(), kVocabulary.begin() + 4);
  BertTokenizer(vocabulary).save_pretrained(folder_);
  EXPECT_EQ(load().mask_token_id(), -1);
  EXPECT_EQ(load().options().model_max_length, std::nullopt);
  EXPECT_TRUE(Json::load(folder_ / "tokenizer_config.json").at("mask_token").is_null());
}

// Who decides about lower case, as in transformers 5.23.
TEST_F(TokenizerFiles, LowerCase) {
  const Json uncased = tokenizer_json();
  const Json cased = change(uncased, {"normalizer", "lowercase"}, false);
  const Json bert = Json::object({{"tokenizer_class", "BertTokenizer"}});
  const Json fast = Json::object({{"tokenizer_class", "PreTrainedTokenizerFast"}});
  const struct {
    const char* name;
    Json json, config, model_config;
    bool lower;
  } rows[] = {
      {"tokenizer.json alone", cased, {}, {}, false},
      {"beside a BERT model", cased, {}, Json::object({{"model_type", "bert"}}), true},
      {"beside another model", cased, {}, Json::object({{"model_type", "albert"}}), false},
      {"BertTokenizer's default", cased, bert, {}, true},
      {"PreTrainedTokenizerFast", cased, fast, {}, false},
      {"BertTokenizer's option", uncased, change(bert, {"do_lower_case"}, false), {}, false},
      {"an option of another class", uncased, change(fast, {"do_lower_case"}, false), {}, true},
      {"vocab.txt alone", {}, {}, {}, true},
      {"vocab.txt and an option", {}, Json::object({{"do_lower_case", false}}), {}, false},
  };
  for (const auto& row : rows) {
    std::filesystem::remove_all(folder_);
    create_folders(folder_);
    if (!row.json.is_null()) write("tokenizer.json", row.json);
    if (row.json.is_null()) BertTokenizer(kVocabulary).save_vocabulary((folder_ / "vocab.txt").string());
    if (!row.config.is_null()) write("tokenizer_config.json", row.config);
    if (!row.model_config.is_null()) write("config.json", row.model_config);
    EXPECT_EQ(load().encode("Hello").ids, (Ids{2, row.lower ? 5 : 6, 3})) << row.name;
  }
}

// A published tokenizer.json carries those of whoever saved it last.
TEST_F(TokenizerFiles, StoredTruncationAndPaddingAreNotUsed) {
  Json json = change(tokenizer_json(), {"truncation"}, Json::object({{"max_length", 3}}));
  json.set("padding", Json::object({{"strategy", Json::object({{"Fixed", 9}})}}));
  write("tokenizer.json", json);
  EXPECT_EQ(load().encode("hello e e").ids, (Ids{2, 5, 7, 7, 3}));
}

TEST_F(TokenizerFiles, OlderTemplate) {
  write("tokenizer.json", change(tokenizer_json(), {"post_processor"},
                                 Json::object({{"type", "BertProcessing"},
                                               {"sep", Json::array({"[SEP]", 3})},
                                               {"cls", Json::array({"[CLS]", 2})}})));
  EXPECT_EQ(load().encode("hello").ids, (Ids{2, 5, 3}));
}

TEST_F(TokenizerFiles, NamesOfSpecialTokens) {
  BertTokenizer({"<pad>", "<unk>", "<s>", "</s>", "hello"}, {.unk_token = "<unk>",
                                                             .sep_token = "</s>",
                                                             .pad_token = "<pad>",
                                                             .cls_token = "<s>"})
      .save_pretrained(folder_);
  EXPECT_EQ(load().encode("hello <pad> x").ids, (Ids{2, 4, 0, 1, 3}));
  std::filesystem::remove(folder_ / "tokenizer_config.json");   // then the older file has them
  EXPECT_EQ(load().pad_token_id(), 0);
  EXPECT_EQ(load().encode("hello").ids, (Ids{2, 4, 3}));
}

TEST_F(TokenizerFiles, AddedTokens) {
  const Json decoder = Json::object({{"11", Json::object({{"content", "<e1>"}})},
                                     {"12", Json::object({{"content", "COVID"},
                                                          {"normalized", true},
                                                          {"special", false}})}});
  write("tokenizer.json", tokenizer_json());
  write("tokenizer_config.json", Json::object({{"added_tokens_decoder", decoder},
                                               {"extra_special_tokens", Json::array({"new", "[X]"})}}));
  const BertTokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.vocab_size(), 11);
  EXPECT_EQ(tokenizer.size(), 14);
  EXPECT_EQ(tokenizer.encode("hello<e1>Covid new[X] e").ids, (Ids{2, 5, 11, 12, 10, 13, 7, 3}));
  EXPECT_EQ(tokenizer.convert_id_to_token(12), "COVID");
  EXPECT_EQ(tokenizer.convert_token_to_id("[X]"), 13);
  EXPECT_EQ(tokenizer.decode(Ids{2, 5, 11, 12, 13, 3}), "[CLS] hello <e1> COVID [X] [SEP]");
  EXPECT_EQ(tokenizer.decode(Ids{2, 5, 11, 12, 13, 3}, true), "hello COVID");
  EXPECT_THROW(tokenizer.decode(Ids{14}), Error);
  const Words text = {"hello<e1>cOvid"};
  const BatchEncoding batch = tokenizer(text, {.return_offsets_mapping = true});
  EXPECT_EQ(batch.input_ids.values, (Ids{2, 5, 11, 12, 3}));
  EXPECT_EQ(batch.offset_mapping->values, (Ids{0, 0, 0, 5, 5, 9, 9, 14, 0, 0}));
}

TEST_F(TokenizerFiles, OfAddedTokensThatBeginTogetherTheLongestIsFound) {
  const BertTokenizer tokenizer(kVocabulary, {.added_tokens = {{.content = "<e", .id = 11},
                                                               {.content = "<e>>", .id = 12},
                                                               {.content = "<e>", .id = 13},
                                                               {.content = "hell", .id = 14, .normalized = true},
                                                               {.content = "hello", .id = 5, .normalized = true}}});
  EXPECT_EQ(tokenizer.encode("<e><e<e>>HELLO").ids, (Ids{2, 13, 11, 12, 5, 3}));
}

TEST_F(TokenizerFiles, ModelMaxLength) {
  BertTokenizer(kVocabulary).save_vocabulary((folder_ / "vocab.txt").string());
  write("tokenizer_config.json", std::string("{\"model_max_length\": 1000000000000000019884624838656}"));
  EXPECT_EQ(load().options().model_max_length, std::nullopt);
  write("tokenizer_config.json", std::string("{\"model_max_length\": 512}"));
  EXPECT_EQ(load().options().model_max_length, 512);
}

TEST_F(TokenizerFiles, RefusedTokenizerJson) {
  const Json good = tokenizer_json();
  const auto vocab = [](std::initializer_list<std::pair<std::string, Json>> tokens) { return Json::object(tokens); };
  const auto added = [&](const char* flag) {
    Json token = added_token(11, "<e>");
    token.set(flag, true);
    return Json::array({token});
  };
  const struct {
    Words path;
    Json value;
    ErrorCode code;
    const char* says;
  } rows[] = {
      {{"model", "type"}, "BPE", ErrorCode::unsupported,
       "tokenizer.json: model.type is \"BPE\"; sinter's BERT tokenizer reads only \"WordPiece\"."},
      {{"model", "continuing_subword_prefix"}, "@@", ErrorCode::unsupported, "reads only \"##\"."},
      {{"model", "max_input_chars_per_word"}, 200, ErrorCode::unsupported,
       "model.max_input_chars_per_word is 200; sinter's BERT tokenizer reads only 100."},
      {{"model", "unk_token"}, 7, ErrorCode::bad_input, "model.unk_token is 7, it must be a text"},
      {{"model", "unk_token"}, "<unk>", ErrorCode::bad_input, "The vocabulary has no <unk>, the tokenizer's unk_token"},
      {{"model", "vocab"}, "x", ErrorCode::bad_input, "model.vocab is \"x\", it must be an object"},
      {{"model", "vocab"}, vocab({{"a", "0"}}), ErrorCode::bad_input, "it must be an integer"},
      {{"model", "vocab"}, vocab({{"a", 0}, {"b", 0}}), ErrorCode::bad_input,
       "model.vocab gives id 0 twice, to \"a\" and \"b\"."},
      {{"model", "vocab"}, vocab({{"a", 0}, {"b", 2}}), ErrorCode::bad_input,
       "model.vocab gives \"b\" the id 2, but has 2 tokens; ids must run from 0 without a hole."},
      {{"model", "vocab"}, vocab({{"a", -1}}), ErrorCode::bad_input, "gives \"a\" the id -1"},
      {{"model", "vocab"}, vocab({{"", 0}}), ErrorCode::bad_input, "model.vocab has an empty token, with id 0."},
      {{"normalizer"}, nullptr, ErrorCode::bad_input, "normalizer is null, it must be an object"},
      {{"normalizer", "type"}, "Lowercase", ErrorCode::unsupported, "normalizer.type is \"Lowercase\""},
      {{"normalizer", "clean_text"}, false, ErrorCode::unsupported, "normalizer.clean_text is false"},
      {{"normalizer", "lowercase"}, "yes", ErrorCode::bad_input, "lowercase is \"yes\", it must be true or false"},
      {{"pre_tokenizer", "type"}, "Whitespace", ErrorCode::unsupported, "pre_tokenizer.type is \"Whitespace\""},
      {{"decoder", "type"}, "BPEDecoder", ErrorCode::unsupported, "decoder.type is \"BPEDecoder\""},
      {{"post_processor", "type"}, "RobertaProcessing", ErrorCode::unsupported,
       "post_processor.type is \"RobertaProcessing\""},
      {{"post_processor", "single"}, Json::array(), ErrorCode::bad_input, "an array of post_processor is empty."},
      {{"post_processor", "pair"}, Json::array(), ErrorCode::unsupported,
       "post_processor is not BERT's [CLS] A [SEP] B [SEP]"},
      {{"added_tokens"}, Json::array({added_token(5, "[X]")}), ErrorCode::bad_input,
       "The added token \"[X]\" has id 5, which the vocabulary gives to \"hello\"."},
      {{"added_tokens"}, Json::array({added_token(12, "[X]")}), ErrorCode::bad_input,
       "The added token \"[X]\" has id 12; the next free id is 11."},
      {{"added_tokens"}, Json::array({added_token(11, "hello")}), ErrorCode::bad_input,
       "The added token \"hello\" has two ids, 5 and 11."},
      {{"added_tokens"}, Json::array({added_token(11, "[X]"), added_token(12, "[X]")}), ErrorCode::bad_input,
       "The added token \"[X]\" has two ids, 11 and 12."},
      {{"added_tokens"}, Json::array({added_token(11, "[X]"), added_token(11, "[Y]")}), ErrorCode::bad_input,
       "The added tokens \"[X]\" and \"[Y]\" both have id 11."},
      {{"added_tokens"}, Json::array({added_token(-1, "[X]")}), ErrorCode::bad_input, "has id -1"},
      {{"added_tokens"}, Json::array({added_token(11, "")}), ErrorCode::bad_input,
       "The added token with id 11 is empty or not valid UTF-8."},
      {{"added_tokens"}, added("lstrip"), ErrorCode::unsupported, "The added token \"<e>\" has lstrip"},
      {{"added_tokens"}, added("rstrip"), ErrorCode::unsupported, "has rstrip"},
      {{"added_tokens"}, added("single_word"), ErrorCode::unsupported, "has single_word"},
  };
  for (const auto& row : rows) {
    write("tokenizer.json", change(good, row.path, row.value));
    SCOPED_TRACE(row.says);
    expect_error([&] { load(); }, row.code, row.says);
    expect_error([&] { load(); }, row.code, (folder_ / "tokenizer.json").string());
  }
  write("tokenizer.json", std::string("{\"model\": "));
  expect_error([&] { load(); }, ErrorCode::bad_input, (folder_ / "tokenizer.json").string());
}

TEST_F(TokenizerFiles, RefusedConfigs) {
  BertTokenizer(kVocabulary).save_vocabulary((folder_ / "vocab.txt").string());
  const struct {
    const char* config;
    ErrorCode code;
    const char* says;
  } rows[] = {
      {R"({"tokenizer_class": "RobertaTokenizer"})", ErrorCode::unsupported,
       "tokenizer_class is \"RobertaTokenizer\"; sinter has BertTokenizer."},
      {R"({"do_lower_case": "yes"})", ErrorCode::bad_input, "do_lower_case is \"yes\", it must be true or false"},
      {R"({"strip_accents": 1})", ErrorCode::bad_input, "must be true or false"},
      {R"({"model_max_length": 0})", ErrorCode::bad_input,
       "model_max_length is 0, it must be an integer of at least 1"},
      {R"({"model_max_length": 0.5})", ErrorCode::bad_input, "model_max_length is 0.5, it must be an integer"},
      {R"({"padding_side": "top"})", ErrorCode::bad_input, "padding_side is \"top\", it must be \"left\" or \"right\""},
      {R"({"truncation_side": 1})", ErrorCode::bad_input, "truncation_side is 1, it must be a text"},
      {R"({"cls_token": "<s>"})", ErrorCode::bad_input, "The vocabulary has no <s>, the tokenizer's cls_token"},
      {R"({"cls_token": 1})", ErrorCode::bad_input, "it must be a text"},
      {R"({"added_tokens_decoder": {"x": {"content": "a"}}})", ErrorCode::bad_input, "have an id as its key"},
      {R"({"added_tokens_decoder": {"11": "a"}})", ErrorCode::bad_input, "added_tokens_decoder"},
  };
  for (const auto& row : rows) {
    write("tokenizer_config.json", std::string(row.config));
    SCOPED_TRACE(row.config);
    expect_error([&] { load(); }, row.code, row.says);
  }
}

TEST_F(TokenizerFiles, RefusedVocabularyFiles) {
  write("vocab.txt", std::string("[PAD]\n[UNK]\n[CLS]\n[SEP]\n\xFF\n"));
  expect_error([&] { load(); }, ErrorCode::bad_input,
               (folder_ / "vocab.txt").string() + ": Token 4 (line 5) of the vocabulary is not valid UTF-8.");
  write("vocab.txt", std::string("[PAD]\n[UNK]\n[CLS]\n[SEP]\n\nx\n"));
  expect_error([&] { load(); }, ErrorCode::bad_input, "Token 4 (line 5) of the vocabulary is empty");
  write("vocab.txt", std::string("[PAD]\n[UNK]\n[CLS]\n[SEP]\nx\nx\n"));
  expect_error([&] { load(); }, ErrorCode::bad_input, "The vocabulary has \"x\" twice, as tokens 4 and 5.");
  std::filesystem::remove(folder_ / "vocab.txt");
  expect_error([&] { load(); }, ErrorCode::not_found, folder_.string());
}

TEST_F(TokenizerFiles, UnwritableFolder) {
  write("file", std::string("x"));
  expect_error([&] { BertTokenizer(kVocabulary).save_pretrained(folder_ / "file"); }, ErrorCode::io, "file");
}

}  // namespace
}  // namespace sinter::data
