// Text tables: the first byte chooses the format, the rest is the file. Every row of an accepted table is whole.
#include "data/delimited.h"
#include "data/utf8.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  if (size == 0) return 0;
  const data::DelimitedFormat format = {.delimiter = (data[0] & 2) != 0 ? ',' : '\t',
                                        .quotes = (data[0] & 2) != 0,
                                        .strict_utf8 = (data[0] & 1) != 0};
  const std::string_view bytes(reinterpret_cast<const char*>(data + 1), size - 1);
  fuzz::expect_value_or_sentence([&] {
    data::DelimitedReader table("table", bytes, format);
    std::size_t text = 0;
    while (table.next()) {
      for (std::size_t i = 0; i < table.header().size(); ++i) {
        const std::string& field = table.field(i);
        text += field.size();
        fuzz::require(data::first_invalid_utf8(field) == field.size(), "a field is UTF-8");
        fuzz::require(format.quotes || field.find_first_of("\t\n") == field.npos, "a field is a part of one line");
      }
    }
    fuzz::require(text <= bytes.size(), "fields are parts of the file");
    for (std::size_t i = 0; i < table.header().size(); ++i)
      fuzz::require(table.column(table.header()[i]) == i, "a column is found by its name");
  });
  return 0;
}
