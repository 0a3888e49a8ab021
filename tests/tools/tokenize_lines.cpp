// Tokenizes what stands on standard input, for tests/tools/tokenizer_diff.py and tokenizer_interop.py.
//   tokenize_lines FOLDER [--pairs] [--max_length N] [--save_to FOLDER]
// FOLDER holds a tokenizer; --save_to writes it out again. Input: texts, each as its number of bytes (u32) and its
// bytes; with --pairs, two of them make a row. --max_length N truncates by longest_first. Output, for each row: the
// number of tokens (u32), then ids, token types, special-token masks, and begin and end of each token (i32). All
// little-endian.
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/auto_tokenizer.h"

namespace {

namespace data = sinter::data;

std::vector<std::string> read_texts() {
  std::vector<std::string> texts;
  std::uint32_t bytes = 0;
  while (std::fread(&bytes, sizeof(bytes), 1, stdin) == 1) {
    std::string text(bytes, '\0');
    if (std::fread(text.data(), 1, bytes, stdin) != bytes)
      sinter::fail(sinter::ErrorCode::bad_input, "the input ends within text ", texts.size());
    texts.push_back(std::move(text));
  }
  return texts;
}

void write(std::span<const std::int32_t> values) {
  std::fwrite(values.data(), sizeof(values[0]), values.size(), stdout);
}

void run(int count, char** arguments) {
  if (count < 2)
    sinter::fail(sinter::ErrorCode::usage,
                 "usage: tokenize_lines FOLDER [--pairs] [--max_length N] [--save_to FOLDER]");
  data::TokenizeOptions options{.return_special_tokens_mask = true, .return_offsets_mapping = true};
  bool pairs = false;
  std::string save_to;
  for (int i = 2; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--pairs") {
      pairs = true;
    } else if (argument == "--max_length" && i + 1 < count) {
      options.truncation = true;
      options.max_length = std::stoll(arguments[++i]);
    } else if (argument == "--save_to" && i + 1 < count) {
      save_to = arguments[++i];
    } else {
      sinter::fail(sinter::ErrorCode::usage, "\"", argument, "\" is no option of tokenize_lines");
    }
  }
  const data::BertTokenizer tokenizer = data::AutoTokenizer::from_pretrained(arguments[1]);
  if (!save_to.empty()) tokenizer.save_pretrained(save_to);
  std::vector<std::string> texts = read_texts(), seconds;
  if (pairs) {
    std::vector<std::string> firsts;
    for (std::size_t i = 0; i < texts.size(); ++i) (i % 2 == 0 ? firsts : seconds).push_back(std::move(texts[i]));
    texts = std::move(firsts);
  }
  const data::BatchEncoding batch = pairs ? tokenizer(texts, seconds, options) : tokenizer(texts, options);
  for (std::int64_t row = 0; row < batch.size(); ++row) {
    const auto length = static_cast<std::int32_t>(batch.input_ids[row].size());
    write({&length, 1});
    write(batch.input_ids[row]);
    write((*batch.token_type_ids)[row]);
    write((*batch.special_tokens_mask)[row]);
    write((*batch.offset_mapping)[row]);
  }
}

}  // namespace

int main(int count, char** arguments) {
  try {
    run(count, arguments);
    return std::fflush(stdout) == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
