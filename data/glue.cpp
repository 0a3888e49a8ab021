#include "data/glue.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "data/utf8.h"

namespace sinter::data {

namespace {

std::string read_whole_file(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    fail(ErrorCode::not_found, "The data file ", path, " does not exist.");
  }
  if (std::filesystem::is_directory(path, ignored)) {
    fail(ErrorCode::io, "The data file ", path, " is a folder.");
  }
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string bytes;
  std::vector<char> chunk(1 << 20);
  while (file.read(chunk.data(), static_cast<std::streamsize>(chunk.size())) || file.gcount() > 0) {
    bytes.append(chunk.data(), static_cast<std::size_t>(file.gcount()));
  }
  if (!file.eof()) {
    fail(ErrorCode::io, "The data file ", path, " cannot be read: ", std::strerror(errno != 0 ? errno : EIO), ".");
  }
  return bytes;
}

// A field and where it starts in its line (0-based, bytes).
struct Field {
  std::string_view text;
  std::size_t start;
};

class TsvReader {
 public:
  TsvReader(const std::string& path, const TsvOptions& options) : path_(path), options_(options) {}

  Examples read(std::string_view bytes) {
    if (bytes.starts_with("\xEF\xBB\xBF")) bytes.remove_prefix(3);
    bool header = true;
    while (!bytes.empty()) {
      ++line_;
      const std::size_t end = bytes.find('\n');
      std::string_view line = bytes.substr(0, end);
      bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (line.empty()) continue;
      check_utf8(line);
      split(line);
      header ? read_header() : read_row(line);
      header = false;
    }
    if (header) {
      line_ = 1;
      refuse(0, "the file has no header line; the first line must name the columns");
    }
    return std::move(examples_);
  }

 private:
  template <class... Parts>
  [[noreturn]] void refuse(std::size_t offset, const Parts&... parts) const {
    fail(ErrorCode::bad_input, path_, ":", line_, ":", offset + 1, ": ", parts..., ".");
  }

  void check_utf8(std::string_view line) const {
    if (!options_.strict_utf8) return;
    const std::size_t at = first_invalid_utf8(line);
    if (at < line.size()) refuse(at, "this byte is not valid UTF-8");
  }

  void split(std::string_view line) {
    fields_.clear();
    std::size_t start = 0;
    for (;;) {
      const std::size_t tab = line.find('\t', start);
      fields_.push_back({line.substr(start, tab - start), start});
      if (tab == std::string_view::npos) return;
      start = tab + 1;
    }
  }

  // Index of a column, or -1. Twice the same name would make the choice a guess.
  int find_column(const std::string& name) const {
    int found = -1;
    for (std::size_t i = 0; i < fields_.size(); ++i) {
      if (fields_[i].text != name) continue;
      if (found >= 0) refuse(fields_[i].start, "the column \"", name, "\" is there twice");
      found = static_cast<int>(i);
    }
    return found;
  }

  void read_header() {
    columns_ = fields_.size();
    sentence_ = find_column(options_.sentence_column);
    label_ = find_column(options_.label_column);
    if (sentence_ < 0) refuse(0, "the header has no column \"", options_.sentence_column, "\"");
    if (label_ < 0 && !options_.allow_unlabelled) {
      refuse(0, "the header has no column \"", options_.label_column, "\"");
    }
  }

  void read_row(std::string_view line) {
    if (fields_.size() < columns_) {
      refuse(line.size(), "the row ends after ", fields_.size(), " of ", columns_, " fields");
    }
    if (fields_.size() > columns_) {
      refuse(fields_[columns_].start, "the row has ", fields_.size(), " fields where the header has ", columns_);
    }
    std::string_view sentence = fields_[static_cast<std::size_t>(sentence_)].text;
    while (sentence.ends_with(' ')) sentence.remove_suffix(1);
    const std::int64_t label = label_ < 0 ? -1 : parse_label(fields_[static_cast<std::size_t>(label_)]);
    examples_.sentence.emplace_back(sentence);
    examples_.label.push_back(label);
    examples_.empty_sentences += sentence.empty() ? 1 : 0;
  }

  std::int64_t parse_label(const Field& field) const {
    if (options_.allow_unlabelled && field.text == "-1") return -1;
    std::int64_t value = 0;
    bool good = !field.text.empty() && field.text.size() <= 9 && (field.text.size() == 1 || field.text[0] != '0');
    for (const char c : field.text.substr(0, 9)) {
      good = good && c >= '0' && c <= '9';
      value = value * 10 + (c - '0');
    }
    if (!good || value >= options_.num_labels) {
      refuse(field.start, "the label \"", printable(field.text), "\" is not one of 0 to ", options_.num_labels - 1,
             options_.allow_unlabelled ? ", nor -1" : "");
    }
    return value;
  }

  // The first characters of a value for an error message, control bytes replaced.
  static std::string printable(std::string_view text) {
    std::string result(text.substr(0, 40));
    for (char& c : result) c = static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '?' : c;
    return text.size() > 40 ? result + "..." : result;
  }

  const std::string& path_;
  const TsvOptions& options_;
  Examples examples_;
  std::vector<Field> fields_;
  std::size_t columns_ = 0;
  std::int64_t line_ = 0;
  int sentence_ = -1;
  int label_ = -1;
};

}  // namespace

Examples read_tsv(const std::string& path, const TsvOptions& options) {
  return TsvReader(path, options).read(read_whole_file(path));
}

Sst2 load_sst2(const std::string& folder) {
  const auto load = [&](const char* name) {
    const std::string path = (std::filesystem::path(folder) / name).string();
    Examples examples = read_tsv(path);
    if (examples.size() == 0) fail(ErrorCode::bad_input, path, " has a header but no rows.");
    return examples;
  };
  return {load("train.tsv"), load("dev.tsv")};
}

}  // namespace sinter::data
