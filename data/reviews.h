// A data set that needs no file: film reviews from a grammar of our own, for machines without SST-2.
//
// Polarity is decided by how words are put together, hardly by which words there are: negation ("not at all dull"),
// double negation ("never anything but dull"), contrast (the clause after "but" decides), comparison ("more clever
// than dull"), reported opinion ("critics called it dull, and they were wrong"). A classifier that sees only the
// bag of words stays far below one that reads the sentence, so a model that scores well has learnt to read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/examples.h"

namespace sinter::data {

struct ReviewOptions {
  std::uint64_t seed = 42;
  std::int64_t train_size = 8000;
  std::int64_t validation_size = 1000;
};

/// What a sentence was made of: the numbers of its template, of the thing it speaks about and of its main adjective.
struct ReviewCombination {
  std::int32_t pattern = 0;
  std::int32_t subject = 0;
  std::int32_t adjective = 0;

  auto operator<=>(const ReviewCombination&) const = default;
};

/// combination[i] belongs to sentence[i].
struct ReviewSplit {
  Examples examples;
  std::vector<ReviewCombination> combination;
};

struct Reviews {
  ReviewSplit train;
  ReviewSplit validation;
};

/// Lower-case English sentences, words and punctuation separated by one space, at most 20 words; label 1 praises,
/// label 0 pans. All sentences are distinct, labels are equally frequent (an odd size has one more of either), no
/// combination of the validation split occurs in the training split, and every word of the validation split does. A
/// pure function of the options. ErrorCode::usage for a negative size, for sizes above 40,000 and 4,000 (the
/// grammar's room), and for a training split too small to contain the words that validation needs.
Reviews generate_reviews(const ReviewOptions& options = {});

/// The same as a data set: the splits "train" and "validation" with the columns sentence and label.
DatasetDict review_dataset(const ReviewOptions& options = {});

/// A WordPiece vocabulary for generate_reviews in the layout of BERT's vocab.txt, id = index: [PAD] [UNK] [CLS] [SEP]
/// [MASK], punctuation, letters, ## letters, whole words, and pieces into which several words of the grammar split.
/// No sentence of generate_reviews needs [UNK].
std::vector<std::string> review_vocabulary();

}  // namespace sinter::data
