// The words and sentence patterns of data/reviews.h.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace sinter::data {

/// A sentence pattern. Words in braces are replaced:
///   {s} what the sentence is about, {t} something else, {f} a kind of film,
///   {p} an adjective of the label's polarity, {n} one of the other polarity,
///   {P} {N} the same, and the main adjective of the sentence (each pattern has exactly one of these two),
///   {v} a verb of the label's polarity (saves, ruins), {w} one of the other polarity,
///   {i} an intensifier or nothing, {x} what strengthens "not" or nothing.
/// "a" becomes "an" before a vowel.
struct ReviewPattern {
  std::uint32_t weight;  ///< relative frequency
  std::string_view text;
};

std::span<const ReviewPattern> review_patterns();
std::span<const std::string_view> review_subjects();
std::span<const std::string_view> review_film_kinds();
/// Adjectives that praise (polarity 1) or pan (polarity 0); equally many.
std::span<const std::string_view> review_adjectives(int polarity);
std::span<const std::string_view> review_verbs(int polarity);
/// Phrases of one or more words; the empty phrase leaves the place empty.
std::span<const std::string_view> review_intensifiers();
std::span<const std::string_view> review_negation_strengtheners();

}  // namespace sinter::data
