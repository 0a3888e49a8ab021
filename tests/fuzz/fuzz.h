// What all fuzz targets share: which outcomes are answers, and which are findings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "core/error.h"

namespace sinter::fuzz {

/// A broken rule is a finding: says which, and aborts.
inline void require(bool holds, const char* rule) {
  if (holds) return;
  std::fprintf(stderr, "broken rule: %s\n", rule);
  std::abort();
}

/// Runs `body`. An Error bad_input or unsupported is an answer, when it is one sentence: short, on one line. Any other
/// exception is a finding.
template <class Body>
void expect_value_or_sentence(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    const std::string_view sentence = error.what();
    require(error.code() == ErrorCode::bad_input || error.code() == ErrorCode::unsupported, error.what());
    require(sentence.size() < 1000 && sentence.find('\n') == sentence.npos, "an error is one short line");
  }
}

/// The bytes as a file: one file in memory, written anew for each input.
const std::string& as_file(std::string_view bytes);

}  // namespace sinter::fuzz
