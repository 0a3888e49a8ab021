#include "data/load_dataset.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/io/files.h"
#include "data/delimited.h"
#include "data/glue.h"

namespace sinter::data {

namespace {

constexpr const char* kServed =
    "\"glue\", \"sst2\" with data_dir; \"csv\" and \"tsv\" with data_files; the path of an SST-2 folder or zip file";

// The value, when the whole text is a number as std::from_chars reads it.
template <class T>
bool parse(const std::string& text, T& value) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return error == std::errc{} && stop == end && !text.empty();
}

template <class T>
bool parse_all(const Column::Texts& texts, std::vector<T>& values) {
  for (const std::string& text : texts)
    if (T value{}; parse(text, value))
      values.push_back(value);
    else
      return false;
  return !texts.empty();
}

Column typed(Column::Texts texts) {
  if (Column::Integers integers; parse_all(texts, integers)) return integers;
  if (Column::Reals reals; parse_all(texts, reals)) return reals;
  return texts;
}

Dataset read_table(const std::string& path, const DelimitedFormat& format) {
  const std::string bytes = read_file(path, kMaxTableBytes);
  DelimitedReader reader(path, bytes, format);
  std::vector<Column::Texts> values(reader.header().size());
  while (reader.next())
    for (std::size_t i = 0; i < values.size(); ++i) values[i].push_back(std::move(reader.field(i)));
  if (values[0].empty()) fail(ErrorCode::bad_input, path, " has a header but no rows");
  reader.report_dropped();
  Columns columns;
  for (std::size_t i = 0; i < values.size(); ++i) columns.emplace(reader.header()[i], typed(std::move(values[i])));
  return Dataset(std::move(columns));
}

DatasetDict load_tables(const std::string& kind, const LoadDatasetOptions& options) {
  if (options.data_files.empty() || !options.data_dir.empty())
    fail(ErrorCode::usage, "load_dataset(\"", kind, "\") takes data_files, one for each split, such as {{\"train\", ",
         "\"train.", kind, "\"}}, and no data_dir");
  const DelimitedFormat format{.delimiter = kind == "csv" ? ',' : '\t', .quotes = kind == "csv",
                               .strict_utf8 = options.strict_utf8};
  std::map<std::string, Dataset> splits;
  for (const auto& [split, file] : options.data_files) splits.emplace(split, read_table(file, format));
  return splits;
}

DatasetDict load_glue(const LoadDatasetOptions& options) {
  if (!options.data_files.empty())
    fail(ErrorCode::usage, "load_dataset(\"glue\", \"sst2\") takes data_dir and no data_files; own files are read by ",
         "load_dataset(\"csv\") and load_dataset(\"tsv\")");
  if (options.data_dir.empty())
    fail(ErrorCode::usage, "load_dataset(\"glue\", \"sst2\") needs data_dir, the folder or zip file of GLUE's SST-2; ",
         kHowToGetSst2);
  return load_sst2(options.data_dir, options.strict_utf8);
}

bool is_one_of(const std::string& text, std::initializer_list<const char*> names) {
  return std::find(names.begin(), names.end(), text) != names.end();
}

}  // namespace

DatasetDict load_dataset(const std::string& path, const std::string& name, const LoadDatasetOptions& options) {
  if (is_one_of(path, {"csv", "tsv"}) && name.empty()) return load_tables(path, options);
  if (is_one_of(path, {"glue", "nyu-mll/glue"}) && name == "sst2") return load_glue(options);
  if (is_one_of(path, {"glue/sst2", "sst2", "stanfordnlp/sst2"}) && name.empty()) return load_glue(options);
  std::error_code ignored;
  if (name.empty() && std::filesystem::exists(path, ignored)) {
    if (!options.data_dir.empty())
      fail(ErrorCode::usage, "load_dataset was given the path ", path, " and the data_dir ", options.data_dir,
           "; give one of them");
    LoadDatasetOptions there = options;
    there.data_dir = path;
    return load_glue(there);
  }
  fail(ErrorCode::usage, "the data set \"", path, name.empty() ? "" : "\", \"", name,
       "\" is not served; those that are: ", kServed);
}

DatasetDict load_dataset(const std::string& path, const LoadDatasetOptions& options) {
  return load_dataset(path, std::string(), options);
}

}  // namespace sinter::data
