// safetensors: the tensors of an accepted file tile its data, and each can be read.
#include <vector>

#include "core/io/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  const std::string& path = fuzz::as_file({reinterpret_cast<const char*>(data), size});
  fuzz::expect_value_or_sentence([&] {
    const SafetensorsFile file(path);
    std::uint64_t end = 0;
    for (const SafetensorsEntry& entry : file.tensors()) {
      fuzz::require(entry.begin == end && entry.end >= end && entry.end <= size, "tensors tile the data");
      fuzz::require(file.find(entry.name) == &entry, "a tensor is found by its name");
      end = entry.end;
      std::vector<char> values(entry.bytes());
      file.read(entry.name, values.data(), values.size());
    }
  });
  return 0;
}
