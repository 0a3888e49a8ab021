#include "data/reviews.h"

#include <string_view>
#include <unordered_set>

#include "core/error.h"
#include "data/draws.h"
#include "data/review_grammar.h"

namespace sinter::data {

namespace {

constexpr std::int64_t kMostTraining = 40000;
constexpr std::int64_t kMostValidation = 4000;
constexpr std::uint32_t kHeldOutShare = 8;  // one combination in eight belongs to validation

struct Sentence {
  std::string text;
  ReviewCombination combination;
};

template <class F>
void for_each_word(std::string_view text, const F& visit) {
  while (!text.empty()) {
    const std::size_t end = text.find(' ');
    const std::string_view word = text.substr(0, end);
    if (!word.empty()) visit(word);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
}

std::uint32_t pick(Draws& draws, std::size_t count) { return draws.below(static_cast<std::uint32_t>(count)); }

std::int32_t pick_pattern(Draws& draws) {
  static const std::uint32_t total = [] {
    std::uint32_t sum = 0;
    for (const ReviewPattern& pattern : review_patterns()) sum += pattern.weight;
    return sum;
  }();
  std::uint32_t left = draws.below(total);
  std::int32_t index = 0;
  for (const ReviewPattern& pattern : review_patterns()) {
    if (left < pattern.weight) break;
    left -= pattern.weight;
    ++index;
  }
  return index;
}

void append_word(std::string& text, std::string_view word) {
  const bool vowel = std::string_view("aeiou").find(word.front()) != std::string_view::npos;
  if (vowel && (text == "a" || text.ends_with(" a"))) text += 'n';
  if (!text.empty()) text += ' ';
  text += word;
}

// Fills a pattern's braces in the order of the sentence.
Sentence draw_sentence(Draws& draws, int label) {
  Sentence sentence;
  sentence.combination.pattern = pick_pattern(draws);
  const auto subjects = review_subjects();
  const std::uint32_t subject = pick(draws, subjects.size());
  const std::uint32_t other = (subject + 1 + pick(draws, subjects.size() - 1)) % subjects.size();
  sentence.combination.subject = static_cast<std::int32_t>(subject);
  const std::size_t adjectives = review_adjectives(1).size();
  const std::uint32_t first = pick(draws, adjectives);
  const std::uint32_t second = (first + 1 + pick(draws, adjectives - 1)) % adjectives;

  const auto phrase = [&](char slot) -> std::string_view {
    switch (slot) {
      case 's': return subjects[subject];
      case 't': return subjects[other];
      case 'f': return review_film_kinds()[pick(draws, review_film_kinds().size())];
      case 'v': return review_verbs(label)[pick(draws, review_verbs(label).size())];
      case 'w': return review_verbs(1 - label)[pick(draws, review_verbs(1 - label).size())];
      case 'i': return review_intensifiers()[pick(draws, review_intensifiers().size())];
      case 'x': return review_negation_strengtheners()[pick(draws, review_negation_strengtheners().size())];
      case 'p': return review_adjectives(label)[second];
      case 'n': return review_adjectives(1 - label)[second];
      default: break;
    }
    const int polarity = slot == 'P' ? label : 1 - label;
    sentence.combination.adjective = static_cast<std::int32_t>(first + (polarity == 1 ? 0 : adjectives));
    return review_adjectives(polarity)[first];
  };
  const auto pattern = review_patterns()[static_cast<std::size_t>(sentence.combination.pattern)].text;
  for_each_word(pattern, [&](std::string_view word) {
    if (word.front() != '{') return append_word(sentence.text, word);
    for_each_word(phrase(word[1]), [&](std::string_view part) { append_word(sentence.text, part); });
  });
  return sentence;
}

bool is_held_out(std::uint64_t seed, const ReviewCombination& c) {
  const std::uint64_t number = (static_cast<std::uint64_t>(c.pattern) << 40) |
                               (static_cast<std::uint64_t>(c.subject) << 20) | static_cast<std::uint64_t>(c.adjective);
  return Draws(seed, DrawPurpose::review_split, number).below(kHeldOutShare) == 0;
}

bool knows_all_words(const std::unordered_set<std::string>& words, std::string_view text) {
  bool all = true;
  for_each_word(text, [&](std::string_view word) { all = all && words.count(std::string(word)) != 0; });
  return all;
}

// Draws `size` sentences whose combinations are held out (or not), distinct from all in `seen`, and made of `words`
// only unless that is null. Labels come in pairs of one each, in a drawn order.
ReviewSplit draw_split(std::uint64_t seed, std::int64_t size, bool held_out, std::unordered_set<std::string>& seen,
                       const std::unordered_set<std::string>* words) {
  Draws draws(seed, DrawPurpose::review, held_out ? 1 : 0);
  ReviewSplit split;
  std::uint32_t first_of_pair = 0;
  // The room for sentences is far larger than the greatest size, so that this many misses in a row mean that the
  // words of a tiny training split admit none.
  constexpr int kAttempts = 20000;
  for (std::int64_t i = 0; i < size; ++i) {
    if (i % 2 == 0) first_of_pair = draws.below(2);
    const int label = static_cast<int>((first_of_pair + static_cast<std::uint32_t>(i)) % 2);
    int attempt = 0;
    for (;; ++attempt) {
      if (attempt == kAttempts) {
        fail(ErrorCode::usage, "A review training split of this size has too few words for ", size,
             " validation sentences; choose a larger train_size.");
      }
      Sentence sentence = draw_sentence(draws, label);
      if (is_held_out(seed, sentence.combination) != held_out) continue;
      if (words != nullptr && !knows_all_words(*words, sentence.text)) continue;
      if (!seen.insert(sentence.text).second) continue;
      split.examples.sentence.push_back(std::move(sentence.text));
      split.examples.label.push_back(label);
      split.combination.push_back(sentence.combination);
      break;
    }
  }
  return split;
}

}  // namespace

Reviews generate_reviews(const ReviewOptions& options) {
  if (options.train_size < 0 || options.train_size > kMostTraining) {
    fail(ErrorCode::usage, "train_size is ", options.train_size, "; reviews offer 0 to ", kMostTraining,
         " sentences.");
  }
  if (options.validation_size < 0 || options.validation_size > kMostValidation) {
    fail(ErrorCode::usage, "validation_size is ", options.validation_size, "; reviews offer 0 to ", kMostValidation,
         " sentences.");
  }
  Reviews reviews;
  std::unordered_set<std::string> seen;
  reviews.train = draw_split(options.seed, options.train_size, false, seen, nullptr);
  std::unordered_set<std::string> words;
  for (const std::string& sentence : reviews.train.examples.sentence) {
    for_each_word(sentence, [&](std::string_view word) { words.emplace(word); });
  }
  reviews.validation = draw_split(options.seed, options.validation_size, true, seen, &words);
  return reviews;
}

DatasetDict review_dataset(const ReviewOptions& options) {
  const Reviews reviews = generate_reviews(options);
  return DatasetDict({{"train", reviews.train.examples.dataset()},
                      {"validation", reviews.validation.examples.dataset()}});
}

std::vector<std::string> review_vocabulary() {
  // Words of the grammar that are no entries of their own, and the pieces that they split into.
  static constexpr std::string_view kSplitWords[] = {
      "unfunny",  "unmoving", "lifeless",  "pointless",  "joyless",     "tasteless",   "witless",   "soulless",
      "soulful",  "graceful", "heartfelt", "refreshing", "predictable", "forgettable", "memorable", "delightful",
      "overlong", "tiresome", "inventive", "absorbing",  "remotely",    "photography", "rescues",   "wrecks",
  };
  static constexpr std::string_view kPieces[] = {
      "un", "refresh", "life", "point", "joy", "taste", "wit", "soul", "grace", "heart", "predict", "forget",
      "memo", "delight", "over", "tire", "invent", "absorb", "remote", "photo", "rescue", "wreck", "##ful",
      "##less", "##felt", "##ing", "##able", "##table", "##rable", "##long", "##some", "##ive", "##ly",
      "##graphy", "##funny", "##moving",
  };
  std::vector<std::string> tokens = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "!", ",", "."};
  for (char letter = 'a'; letter <= 'z'; ++letter) tokens.emplace_back(1, letter);
  for (char letter = 'a'; letter <= 'z'; ++letter) tokens.push_back(std::string("##") + letter);
  std::unordered_set<std::string> known(tokens.begin(), tokens.end());
  for (const std::string_view word : kSplitWords) known.emplace(word);
  const auto add = [&](std::string_view word) {
    if (word.front() != '{' && known.emplace(word).second) tokens.emplace_back(word);
  };
  add("an");
  for (const ReviewPattern& pattern : review_patterns()) for_each_word(pattern.text, add);
  for (const auto& list : {review_subjects(), review_film_kinds(), review_adjectives(1), review_adjectives(0),
                           review_verbs(1), review_verbs(0), review_intensifiers(), review_negation_strengtheners()}) {
    for (const std::string_view phrase : list) for_each_word(phrase, add);
  }
  for (const std::string_view piece : kPieces) add(piece);
  return tokens;
}

}  // namespace sinter::data
