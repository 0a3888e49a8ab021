// UTF-8: decoding consumes every byte string, and encoding a valid character gives its bytes back.
#include "data/unicode.h"
#include "data/utf8.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::size_t first_invalid = size;
  std::string valid;
  for (std::size_t at = 0; at < size;) {
    const data::Utf8Step step = data::decode_utf8(text.substr(at));
    fuzz::require(step.length >= 1 && step.length <= 4 && at + step.length <= size, "a step stays in the text");
    if (step.valid) {
      std::string bytes;
      data::append_utf8(bytes, step.code_point);
      fuzz::require(bytes == text.substr(at, step.length), "encoding is the inverse of decoding");
      valid += bytes;
    } else {
      fuzz::require(step.code_point == 0xFFFD, "an ill-formed subpart is U+FFFD");
      if (first_invalid == size) first_invalid = at;
    }
    at += step.length;
  }
  fuzz::require(data::first_invalid_utf8(text) == first_invalid, "both find the same first ill-formed byte");
  fuzz::require(data::first_invalid_utf8(valid) == valid.size(), "what was encoded is well-formed");
  return 0;
}
