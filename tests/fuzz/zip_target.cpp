// zip archives: every file of an accepted directory is read to its whole size, or refused.
#include "core/error.h"
#include "data/zip.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  const std::string& path = fuzz::as_file({reinterpret_cast<const char*>(data), size});
  fuzz::expect_value_or_sentence([&] {
    const data::ZipArchive archive(path);
    for (const std::string& name : archive.names())
      fuzz::expect_value_or_sentence(
          [&] { fuzz::require(archive.read(name, 1 << 20).size() <= 1 << 20, "max_bytes is kept"); });
  });
  return 0;
}
