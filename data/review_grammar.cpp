#include "data/review_grammar.h"

namespace sinter::data {

namespace {

// Weights: plain statements are frequent enough that words carry a little of the label, as they do in real reviews.
constexpr ReviewPattern kPatterns[] = {
    // Statement.
    {8, "the {s} is {i} {P} ."},
    {6, "i found the {s} {i} {P} ."},
    {6, "what a {P} {s} this {f} has !"},
    {6, "a {f} with a {i} {P} {s} ."},
    {6, "the {s} is {P} and the {t} is {i} {p} ."},
    {2, "the {s} could not be more {P} ."},
    // Negation.
    {2, "the {s} is not {x} {N} ."},
    {1, "there is nothing {N} about the {s} of this {f} ."},
    {1, "nobody could call the {s} {i} {N} ."},
    {1, "the {s} is never {N} ."},
    {1, "the {s} of this {f} is far from {N} ."},
    {1, "the {s} is anything but {N} ."},
    {1, "i would not say that the {s} is {i} {N} ."},
    {1, "this is hardly a {f} with a {N} {s} ."},
    {1, "the {s} could not be less {N} ."},
    {1, "if only the {s} of this {f} were {N} !"},
    // Double negation.
    {1, "it is not true that the {s} is not {P} ."},
    {1, "nobody could say that the {s} is not {i} {P} ."},
    {1, "the {s} is never anything but {P} ."},
    {1, "i would not deny that the {s} is {i} {P} ."},
    // Contrast: the clause after "but" decides, and the main clause beside "although" and "despite".
    {2, "the {t} is {n} but the {s} is {i} {P} ."},
    {1, "although the {t} is {n} , the {s} is {i} {P} ."},
    {1, "the {s} is {i} {P} , although the {t} is {n} ."},
    {1, "the {t} is {n} but the {s} is not {x} {N} ."},
    {1, "the {t} is not {x} {p} but the {s} is {P} ."},
    {1, "the {t} is not {p} but the {s} is not {x} {N} ."},
    {1, "despite a {n} {t} , the {s} is {P} ."},
    {1, "the {s} is {P} in spite of a {n} {t} ."},
    {1, "for all its {n} {t} , this {f} has a {P} {s} ."},
    {1, "the {t} may seem {n} at first , yet the {s} is {P} ."},
    {1, "it is perhaps {i} {n} , but the {s} is {P} ."},
    {1, "the {s} starts out {n} and ends up {P} ."},
    // Comparison and expectation.
    {1, "the {s} is more {P} than {n} ."},
    {1, "the {s} is less {N} than {p} ."},
    {1, "the {s} of this {f} is {P} rather than {n} ."},
    {1, "instead of a {n} {s} we get a {P} one ."},
    {1, "i expected a {n} {s} and got a {P} one ."},
    // Reported opinion.
    {1, "critics called the {s} {i} {N} , and they were wrong ."},
    {1, "critics called the {s} {i} {P} , and they were right ."},
    // One thing decides about another.
    {1, "the {t} is {i} {N} but the {s} {v} it ."},
    {1, "the {t} is {P} and not even the {s} {w} it ."},
    {1, "the {s} {v} a {i} {N} {f} ."},
};

constexpr std::string_view kSubjects[] = {
    "plot", "story", "acting", "cast", "script", "dialogue", "pacing", "ending", "score", "music", "camera",
    "humor", "romance", "villain", "hero", "editing", "premise", "opening", "finale", "lighting", "writing",
    "design", "staging", "rhythm", "tone", "mood", "chemistry", "suspense", "photography", "direction",
};

constexpr std::string_view kFilmKinds[] = {
    "film", "movie", "picture", "comedy", "drama", "thriller", "sequel", "remake",
};

constexpr std::string_view kPraise[] = {
    "good",      "great",   "funny",      "clever",    "moving",  "charming",  "gripping",  "witty",      "fresh",
    "tender",    "honest",  "graceful",   "inventive", "lively",  "vivid",     "warm",      "smart",      "elegant",
    "thrilling", "superb",  "touching",   "memorable", "subtle",  "brilliant", "beautiful", "delightful", "engaging",
    "haunting",  "playful", "convincing", "wonderful", "soulful", "heartfelt", "spirited",  "refreshing", "absorbing",
};

constexpr std::string_view kPan[] = {
    "bad",      "dull",      "boring",    "stale",   "clumsy",   "tedious",     "bland",       "awkward",  "lazy",
    "shallow",  "hollow",    "flat",      "weak",    "silly",    "predictable", "forgettable", "lifeless", "pointless",
    "tiresome", "unfunny",   "annoying",  "ugly",    "messy",    "sloppy",      "stilted",     "wooden",   "dreary",
    "muddled",  "contrived", "tasteless", "joyless", "overlong", "unmoving",    "plodding",    "witless",  "soulless",
};
static_assert(std::size(kPraise) == std::size(kPan));

constexpr std::string_view kSavingVerbs[] = {"saves", "rescues", "redeems", "lifts"};
constexpr std::string_view kRuiningVerbs[] = {"ruins", "sinks", "spoils", "wrecks"};

constexpr std::string_view kIntensifiers[] = {
    "", "", "", "very", "really", "truly", "utterly", "quite", "rather", "simply",
};
constexpr std::string_view kStrengtheners[] = {"", "", "at all", "even remotely", "particularly", "the least bit"};

}  // namespace

std::span<const ReviewPattern> review_patterns() { return kPatterns; }
std::span<const std::string_view> review_subjects() { return kSubjects; }
std::span<const std::string_view> review_film_kinds() { return kFilmKinds; }
std::span<const std::string_view> review_adjectives(int polarity) { return polarity == 1 ? kPraise : kPan; }
std::span<const std::string_view> review_verbs(int polarity) { return polarity == 1 ? kSavingVerbs : kRuiningVerbs; }
std::span<const std::string_view> review_intensifiers() { return kIntensifiers; }
std::span<const std::string_view> review_negation_strengtheners() { return kStrengtheners; }

}  // namespace sinter::data
