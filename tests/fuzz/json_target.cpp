// JSON: what is read is written and read again without a difference, in both styles.
#include "core/io/json.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::expect_value_or_sentence([&] {
    const Json value = Json::parse(text, "input.json");
    for (const JsonStyle style : {JsonStyle{}, JsonStyle{.indent = -1, .sort_keys = true}})
      fuzz::require(Json::parse(value.dump(style), "written.json") == value, "writing and reading keeps the value");
  });
  return 0;
}
