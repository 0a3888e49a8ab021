#include "data/reviews.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <unordered_map>

#include "core/error.h"
#include "data/tokenizer.h"

namespace sinter::data {
namespace {

const Reviews& reviews() {
  static const Reviews value = generate_reviews();
  return value;
}

std::vector<std::string> words_of(const std::string& sentence) {
  std::istringstream stream(sentence);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// FNV-1a over sentences and labels.
std::uint64_t fingerprint(const Examples& examples) {
  std::uint64_t hash = 14695981039346656037u;
  const auto add = [&](unsigned char byte) { hash = (hash ^ byte) * 1099511628211u; };
  for (std::size_t i = 0; i < examples.sentence.size(); ++i) {
    for (const char c : examples.sentence[i]) add(static_cast<unsigned char>(c));
    add(static_cast<unsigned char>('0' + examples.label[i]));
  }
  return hash;
}

TEST(Reviews, SizesBalanceAndLength) {
  EXPECT_EQ(reviews().train.examples.size(), 8000);
  EXPECT_EQ(reviews().validation.examples.size(), 1000);
  for (const ReviewSplit* split : {&reviews().train, &reviews().validation}) {
    const auto& label = split->examples.label;
    EXPECT_EQ(std::count(label.begin(), label.end(), 1) * 2, split->examples.size());
    EXPECT_EQ(std::count(label.begin(), label.end(), 0) * 2, split->examples.size());
    for (const std::string& sentence : split->examples.sentence) {
      const std::size_t words = words_of(sentence).size();
      EXPECT_GE(words, 4u) << sentence;
      EXPECT_LE(words, 20u) << sentence;
      EXPECT_EQ(sentence.find_first_of("{}"), std::string::npos) << sentence;
      EXPECT_EQ(sentence.find("  "), std::string::npos) << sentence;
    }
  }
}

TEST(Reviews, SentencesAreDistinctAndHeldOutCombinationsAreNew) {
  std::set<std::string> sentences;
  std::set<ReviewCombination> trained;
  for (const std::string& sentence : reviews().train.examples.sentence) sentences.insert(sentence);
  for (const std::string& sentence : reviews().validation.examples.sentence) sentences.insert(sentence);
  EXPECT_EQ(sentences.size(), 9000u);
  trained.insert(reviews().train.combination.begin(), reviews().train.combination.end());
  for (const ReviewCombination& c : reviews().validation.combination) EXPECT_EQ(trained.count(c), 0u);
}

TEST(Reviews, EveryWordOfValidationIsTrained) {
  for (const std::int64_t train_size : {200, 8000}) {
    const Reviews r = generate_reviews({.train_size = train_size, .validation_size = 100});
    std::set<std::string> words;
    for (const std::string& sentence : r.train.examples.sentence) {
      for (const std::string& word : words_of(sentence)) words.insert(word);
    }
    for (const std::string& sentence : r.validation.examples.sentence) {
      for (const std::string& word : words_of(sentence)) EXPECT_EQ(words.count(word), 1u) << word;
    }
  }
}

// No word gives the label away: each frequent one stands in sentences of both labels, at most four fifths in one.
TEST(Reviews, WordsDoNotGiveTheLabelAway) {
  std::map<std::string, std::pair<int, int>> count;
  for (std::size_t i = 0; i < reviews().train.examples.sentence.size(); ++i) {
    const auto words = words_of(reviews().train.examples.sentence[i]);
    for (const std::string& word : std::set<std::string>(words.begin(), words.end())) {
      auto& [positive, all] = count[word];
      positive += reviews().train.examples.label[i] == 1 ? 1 : 0;
      ++all;
    }
  }
  for (const auto& [word, c] : count) {
    if (c.second < 20) continue;
    EXPECT_GE(c.first * 5, c.second) << word;
    EXPECT_LE(c.first * 5, c.second * 4) << word;
  }
}

TEST(Reviews, ArePinnedAndDependOnTheSeed) {
  EXPECT_EQ(fingerprint(reviews().train.examples), 16525293673318593572u);
  EXPECT_EQ(fingerprint(reviews().validation.examples), 9625500149878908372u);
  EXPECT_EQ(fingerprint(generate_reviews().train.examples), fingerprint(reviews().train.examples));
  EXPECT_NE(fingerprint(generate_reviews({.seed = 43}).train.examples), fingerprint(reviews().train.examples));
  // A smaller training split is a prefix of a larger one.
  const Reviews small = generate_reviews({.train_size = 500, .validation_size = 0});
  EXPECT_TRUE(std::equal(small.train.examples.sentence.begin(), small.train.examples.sentence.end(),
                         reviews().train.examples.sentence.begin()));
}

TEST(Reviews, RefusesImpossibleSizes) {
  EXPECT_THROW(generate_reviews({.train_size = -1}), Error);
  EXPECT_THROW(generate_reviews({.train_size = 40001}), Error);
  EXPECT_THROW(generate_reviews({.validation_size = 4001}), Error);
  EXPECT_THROW(generate_reviews({.train_size = 0, .validation_size = 1}), Error);
  EXPECT_EQ(generate_reviews({.train_size = 3, .validation_size = 0}).train.examples.size(), 3);
}

TEST(Reviews, GreatestSizesHaveRoom) {
  const Reviews r = generate_reviews({.seed = 7, .train_size = 40000, .validation_size = 4000});
  EXPECT_EQ(r.train.examples.size(), 40000);
  EXPECT_EQ(r.validation.examples.size(), 4000);
}

// Logistic regression on word counts, fitted by gradient descent on the whole training split.
class BagOfWords {
 public:
  explicit BagOfWords(const Examples& train) {
    std::vector<Row> rows;
    for (const std::string& sentence : train.sentence) rows.push_back(row_of(sentence, true));
    weight_.assign(number_.size() + 1, 0.0);
    const auto n = static_cast<double>(rows.size());
    std::vector<double> gradient(weight_.size()), velocity(weight_.size(), 0.0);
    for (int iteration = 0; iteration < 600; ++iteration) {
      for (std::size_t j = 0; j < weight_.size(); ++j) gradient[j] = kL2 * weight_[j];
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const double error = (1.0 / (1.0 + std::exp(-score(rows[i]))) - static_cast<double>(train.label[i])) / n;
        for (const std::size_t j : rows[i]) gradient[j] += error;
      }
      norm_ = 0;
      for (std::size_t j = 0; j < weight_.size(); ++j) {
        velocity[j] = 0.95 * velocity[j] - 0.3 * gradient[j];
        weight_[j] += velocity[j];
        norm_ += gradient[j] * gradient[j];
      }
    }
  }
  double gradient_norm() const { return std::sqrt(norm_); }

  double accuracy(const Examples& examples) {
    int right = 0;
    for (std::size_t i = 0; i < examples.sentence.size(); ++i) {
      right += (score(row_of(examples.sentence[i], false)) > 0) == (examples.label[i] == 1) ? 1 : 0;
    }
    return static_cast<double>(right) / static_cast<double>(examples.size());
  }

 private:
  using Row = std::vector<std::size_t>;  // feature numbers, 0 is the intercept; a repeated word stands repeatedly
  static constexpr double kL2 = 1e-4;    // about 1 / n: scikit-learn's default strength

  Row row_of(const std::string& sentence, bool learn) {
    Row row = {0};
    for (const std::string& word : words_of(sentence)) {
      if (learn) number_.emplace(word, number_.size() + 1);
      if (const auto found = number_.find(word); found != number_.end()) row.push_back(found->second);
    }
    return row;
  }
  double score(const Row& row) const {
    double sum = 0;
    for (const std::size_t j : row) sum += weight_[j];
    return sum;
  }

  std::unordered_map<std::string, std::size_t> number_;
  std::vector<double> weight_;
  double norm_ = 0;
};

TEST(Reviews, ABagOfWordsIsNotEnough) {
  BagOfWords model(reviews().train.examples);
  const double trained = model.accuracy(reviews().train.examples);
  const double held_out = model.accuracy(reviews().validation.examples);
  std::cout << "Bag of words: " << trained * 100 << " % on training, " << held_out * 100
            << " % on held-out sentences; gradient norm " << model.gradient_norm() << "\n";
  EXPECT_LT(model.gradient_norm(), 1e-3);
  EXPECT_LE(held_out, 0.75);
  EXPECT_GE(held_out, 0.55);  // 50 % and three standard deviations of 1000 throws
}

TEST(ReviewVocabulary, CoversTheGrammarInBertsLayout) {
  const std::vector<std::string> vocabulary = review_vocabulary();
  const std::vector<std::string> head(vocabulary.begin(), vocabulary.begin() + 5);
  EXPECT_EQ(head, (std::vector<std::string>{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}));
  const BertTokenizer tokenizer(vocabulary);
  std::set<std::string> split_words;
  for (const ReviewSplit* split : {&reviews().train, &reviews().validation}) {
    for (const std::string& sentence : split->examples.sentence) {
      for (const std::string& word : words_of(sentence)) {
        const auto tokens = tokenizer.tokens(word);
        EXPECT_EQ(std::count(tokens.begin(), tokens.end(), "[UNK]"), 0) << word;
        if (tokens.size() > 1) split_words.insert(word);
        EXPECT_LE(tokens.size(), 3u) << word;
      }
    }
  }
  EXPECT_GE(split_words.size(), 15u);
}

}  // namespace
}  // namespace sinter::data
