// The logits of each line of standard input by a classifier's folder, for tests/tools/model_interop.py.
//   line_logits FOLDER [--save_to FOLDER]
// Output: a line for each input line, with the numbers as they are stored; --save_to writes model and tokenizer again.
#include <cstdio>
#include <iostream>
#include <string>

#include "core/error.h"
#include "core/io/files.h"
#include "data/auto_tokenizer.h"
#include "nn/pretrained.h"
#include "train/trainer.h"

namespace {

using namespace sinter;

void run(int count, char** words) {
  if (count != 2 && !(count == 4 && std::string(words[2]) == "--save_to"))
    fail(ErrorCode::usage, "usage: line_logits FOLDER [--save_to FOLDER]");
  const auto tokenizer = data::AutoTokenizer::from_pretrained(words[1]);
  const auto model = nn::AutoModelForSequenceClassification::from_pretrained(words[1]);
  std::vector<std::string> lines;
  for (std::string line; std::getline(std::cin, line);) lines.push_back(line);
  const data::Dataset dataset(tokenizer(lines, {.truncation = true}));
  train::Trainer trainer({.model = model, .args = {.disable_tqdm = true}});
  const train::PredictionOutput output = trainer.predict(dataset);
  const auto width = static_cast<std::size_t>(model->config.num_labels);
  for (std::size_t i = 0; i < output.predictions.size(); ++i)
    std::printf("%.9g%c", static_cast<double>(output.predictions[i]), (i + 1) % width == 0 ? '\n' : ' ');
  if (count != 4) return;
  create_folders(words[3]);
  nn::save_pretrained(*model, words[3]);
  tokenizer.save_pretrained(words[3]);
}

}  // namespace

int main(int count, char** words) {
  try {
    run(count, words);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "line_logits: %s\n", error.what());
    return 2;
  }
}
