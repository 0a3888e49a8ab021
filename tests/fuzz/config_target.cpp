// config.json: a config that is accepted keeps its rules, and survives being written.
#include "core/io/json.h"
#include "nn/bert_config.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  fuzz::expect_value_or_sentence([&] {
    const nn::BertConfig config = nn::BertConfig::from_json(Json::parse(text, "config.json"));
    fuzz::require(config.head_size() * config.num_attention_heads == config.hidden_size, "heads divide hidden_size");
    fuzz::require(!config.label_name(0).empty() || config.id2label.contains(0), "every class has a name");
    if (config.num_labels > 1000) return;  // a table of a million names takes its time and shows nothing new
    const Json written = config.to_json();
    const Json again = nn::BertConfig::from_json(Json::parse(written.dump(), "written.json")).to_json();
    fuzz::require(again == written, "writing and reading keeps the config");
  });
  return 0;
}
