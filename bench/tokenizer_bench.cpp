// Sentences a second of the tokenizer, sinter alone; bench/compare/tokenizer.py runs it beside Hugging Face's.
//   tokenizer_bench TOKENIZER_FOLDER FILE [Google Benchmark's options]
// FILE is SST-2's train.tsv: a header, then a sentence before the first tab of each line. encode/N makes ids, token
// types and masks, as training uses them, on N threads; offsets/N also offsets and special-token masks. "tokens" counts
// [CLS] and [SEP] too.
#include <benchmark/benchmark.h>

#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "core/error.h"
#include "data/auto_tokenizer.h"

namespace {

namespace data = sinter::data;

std::vector<std::string> read_sentences(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> sentences;
  std::string line;
  for (std::getline(file, line); std::getline(file, line);) sentences.push_back(line.substr(0, line.find('\t')));
  if (sentences.empty()) sinter::fail(sinter::ErrorCode::bad_input, path, " has no sentences");
  return sentences;
}

void run(int* count, char** arguments) {
  benchmark::Initialize(count, arguments);
  if (*count != 3) sinter::fail(sinter::ErrorCode::usage, "usage: tokenizer_bench TOKENIZER_FOLDER FILE");
  const data::BertTokenizer tokenizer = data::AutoTokenizer::from_pretrained(arguments[1]);
  const std::vector<std::string> sentences = read_sentences(arguments[2]);
  const auto measure = [&](benchmark::State& state, data::TokenizeOptions options) {
    options.num_threads = static_cast<int>(state.range(0));
    std::size_t tokens = 0;
    for (auto _ : state) tokens = tokenizer(sentences, options).input_ids.values.size();
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(sentences.size()));
    state.counters["tokens"] = static_cast<double>(tokens);
  };
  const data::TokenizeOptions training, all{.return_special_tokens_mask = true, .return_offsets_mapping = true};
  for (const auto& [name, options] : {std::pair("encode", training), std::pair("offsets", all)})
    benchmark::RegisterBenchmark(name, measure, options)->Arg(1)->Arg(2)->UseRealTime()->Unit(benchmark::kMillisecond);
  benchmark::RunSpecifiedBenchmarks();
}

}  // namespace

int main(int count, char** arguments) {
  try {
    run(&count, arguments);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
