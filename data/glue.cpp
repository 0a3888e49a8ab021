#include "data/glue.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <functional>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/io/files.h"
#include "core/log.h"
#include "data/delimited.h"
#include "data/zip.h"

namespace sinter::data {

namespace fs = std::filesystem;

const char* const kHowToGetSst2 =
    "GLUE publishes it: curl -LO https://dl.fbaipublicfiles.com/glue/data/SST-2.zip, and then data_dir is SST-2.zip";

namespace {

struct Split {
  const char* name;
  const char* file;
};
constexpr Split kSplits[] = {{"train", "train.tsv"}, {"validation", "dev.tsv"}, {"test", "test.tsv"}};

// The first characters of a value for a message, control bytes replaced.
std::string printable(const std::string& text) {
  std::string result = text.substr(0, 40);
  for (char& c : result) c = static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
  return text.size() > 40 ? result + "..." : result;
}

std::int64_t parse_label(DelimitedReader& reader, std::size_t column, bool test) {
  const std::string& text = reader.field(column);
  if (text == "0" || text == "1") return text[0] - '0';
  if (test && text == "-1") return -1;
  reader.refuse(column, "the label \"", printable(text), "\" is not one of 0 (negative) and 1 (positive)",
                test ? ", nor -1 (unknown)" : "");
}

std::int64_t parse_index(DelimitedReader& reader, std::size_t column) {
  const std::string& text = reader.field(column);
  std::int64_t value = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || stop != text.data() + text.size())
    reader.refuse(column, "the index \"", printable(text), "\" is not an integer");
  return value;
}

Dataset read_split(const std::string& source, const std::string& bytes, bool test, bool strict_utf8) {
  DelimitedReader reader(source, bytes, {.strict_utf8 = strict_utf8});
  const std::size_t sentence = reader.column("sentence");
  std::optional<std::size_t> label, index;
  if (!test || reader.has_column("label")) label = reader.column("label");
  if (test && reader.has_column("index")) index = reader.column("index");
  Column::Texts sentences;
  Column::Integers labels, indices;
  std::int64_t empty = 0;
  while (reader.next()) {
    indices.push_back(index ? parse_index(reader, *index) : static_cast<std::int64_t>(indices.size()));
    labels.push_back(label ? parse_label(reader, *label, test) : -1);
    sentences.push_back(std::move(reader.field(sentence)));
    empty += sentences.back().find_first_not_of(' ') == std::string::npos ? 1 : 0;
  }
  if (sentences.empty()) fail(ErrorCode::bad_input, source, " has a header but no rows");
  if (empty > 0)
    log_info(source + ": " + std::to_string(empty) +
             (empty == 1 ? " sentence is empty; it is" : " sentences are empty; they are") + " kept, as [CLS] [SEP]");
  reader.report_dropped();
  return Dataset({{"sentence", std::move(sentences)}, {"label", std::move(labels)}, {"idx", std::move(indices)}},
                 {{"label", {{"negative", "positive"}}}});
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool has_split(const fs::path& folder) {
  return std::any_of(std::begin(kSplits), std::end(kSplits),
                     [&](const Split& split) { return is_there(folder / split.file); });
}

DatasetDict read_folder(const fs::path& folder, bool strict_utf8) {
  std::map<std::string, Dataset> splits;
  for (const auto& [name, file] : kSplits) {
    const fs::path path = folder / file;
    if (!is_there(path)) continue;
    const std::string bytes = read_file(path, kMaxTableBytes);
    splits.emplace(name, read_split(path.string(), bytes, std::string(name) == "test", strict_utf8));
  }
  return splits;
}

// The name of a file at the top of the archive or in one of its folders; GLUE's has all files in SST-2/.
std::optional<std::string> find_file(const ZipArchive& archive, const fs::path& path, const std::string& file) {
  std::optional<std::string> found;
  for (const std::string& name : archive.names()) {
    const std::size_t slash = name.find('/');
    if (name != file && (slash == std::string::npos || name.substr(slash + 1) != file)) continue;
    if (found)
      fail(ErrorCode::bad_input, path.string(), ": \"", *found, "\" and \"", name,
           "\" are both there; an archive holds one data set");
    found = name;
  }
  return found;
}

DatasetDict read_zip(const fs::path& path, bool strict_utf8) {
  const ZipArchive archive(path);
  std::map<std::string, Dataset> splits;
  for (const auto& [name, file] : kSplits)
    if (const auto found = find_file(archive, path, file))
      splits.emplace(name, read_split(path.string() + "/" + *found, archive.read(*found, kMaxTableBytes),
                                      std::string(name) == "test", strict_utf8));
  if (splits.empty())
    fail(ErrorCode::not_found, path.string(), " holds none of train.tsv, dev.tsv and test.tsv; ", kHowToGetSst2);
  return splits;
}

}  // namespace

DatasetDict load_sst2(const std::string& data_dir, bool strict_utf8) {
  const fs::path path = data_dir;
  std::error_code ignored;
  if (!is_there(path)) fail(ErrorCode::not_found, "data_dir ", data_dir, " does not exist; ", kHowToGetSst2);
  if (path.extension() == ".tsv" && fs::is_regular_file(path, ignored))
    fail(ErrorCode::not_found, "data_dir ", data_dir, " is one table; data_dir is the folder that holds train.tsv and ",
         "dev.tsv, or GLUE's SST-2.zip");
  if (!fs::is_directory(path, ignored)) return read_zip(path, strict_utf8);
  for (const fs::path& folder : {path, path / "SST-2"})
    if (has_split(folder)) return read_folder(folder, strict_utf8);
  if (is_there(path / "SST-2.zip")) return read_zip(path / "SST-2.zip", strict_utf8);
  fail(ErrorCode::not_found, "data_dir ", data_dir, " holds none of train.tsv, dev.tsv, test.tsv and SST-2.zip; ",
       kHowToGetSst2);
}

}  // namespace sinter::data
