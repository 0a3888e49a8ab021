// GLUE's files of SST-2 and own tables: the first byte chooses what the rest is. Every accepted row has its columns.
#include <stdlib.h>
#include <unistd.h>

#include "core/log.h"
#include "data/load_dataset.h"
#include "tests/fuzz/fuzz.h"

namespace {

/// A folder whose only entry is a link to the input.
class DataFolder {
 public:
  explicit DataFolder(const char* name) {
    sinter::fuzz::require(::mkdtemp(path_.data()) != nullptr, "a folder can be made");
    link_ = path_ + "/" + name;
    sinter::fuzz::require(::symlink(sinter::fuzz::as_file("").c_str(), link_.c_str()) == 0, "a link can be made");
  }
  ~DataFolder() {
    ::unlink(link_.c_str());
    ::rmdir(path_.c_str());
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/sinter-fuzz-XXXXXX", link_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sinter;
  static const DataFolder train("train.tsv"), test("test.tsv");
  if (size == 0) return 0;
  set_log_sink([](const std::string&) {});
  const std::string& file = fuzz::as_file({reinterpret_cast<const char*>(data + 1), size - 1});
  const bool strict = (data[0] & 1) != 0;
  fuzz::expect_value_or_sentence([&] {
    if ((data[0] & 4) != 0) {
      const char* format = (data[0] & 2) != 0 ? "csv" : "tsv";
      data::load_dataset(format, {.data_files = {{"train", file}}, .strict_utf8 = strict});
      return;
    }
    const bool labelled = (data[0] & 2) == 0;
    const data::DatasetDict read =
        data::load_dataset("glue", "sst2", {.data_dir = (labelled ? train : test).path(), .strict_utf8 = strict});
    const data::Dataset& rows = read[labelled ? "train" : "test"];
    fuzz::require(rows.size() > 0, "a split has rows");
    for (const std::int64_t label : rows.column("label").integers())
      fuzz::require(label == 0 || label == 1 || (!labelled && label == -1), "a label is one of its classes");
    fuzz::require(rows.column("sentence").size() == rows.size() && rows.column("idx").size() == rows.size(),
                  "every row has its columns");
  });
  return 0;
}
