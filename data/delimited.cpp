#include "data/delimited.h"

#include <algorithm>
#include <utility>

#include "core/log.h"
#include "core/io/shown.h"
#include "data/utf8.h"

namespace sinter::data {

DelimitedReader::DelimitedReader(std::string source, std::string_view bytes, const DelimitedFormat& format)
    : source_(std::move(source)), bytes_(bytes), format_(format) {
  if (bytes_.starts_with("\xEF\xBB\xBF")) bytes_.remove_prefix(3);
  if (!read_fields()) refuse_at({}, "the file has no header line; the first line must name the columns");
  for (const Field& field : fields_) {
    if (field.text.empty()) refuse_at(field.place, "a column has no name");
    if (has_column(field.text)) refuse_at(field.place, "the column \"", shown(field.text), "\" is there twice");
    header_.push_back(field.text);
  }
}

bool DelimitedReader::has_column(const std::string& name) const {
  return std::find(header_.begin(), header_.end(), name) != header_.end();
}

std::size_t DelimitedReader::column(const std::string& name) const {
  const auto found = std::find(header_.begin(), header_.end(), name);
  if (found != header_.end()) return static_cast<std::size_t>(found - header_.begin());
  std::string names;
  for (const std::string& other : header_) names += (names.empty() ? "" : ", ") + other;
  refuse_at({}, "the header has no column \"", name, "\"; its columns: ", shown(names, 300));
}

void DelimitedReader::report_dropped() const {
  if (invalid_lines_ > 0)
    log_info(source_ + ": " + std::to_string(invalid_lines_) +
             (invalid_lines_ == 1 ? " line" : " lines") + " held bytes that are not UTF-8, which were dropped");
}

bool DelimitedReader::next() {
  if (!read_fields()) return false;
  if (fields_.size() < header_.size())
    refuse_at(row_end_, "the row ends after ", fields_.size(), " of ", header_.size(), " fields");
  if (fields_.size() > header_.size())
    refuse_at(fields_[header_.size()].place, "the row has ", fields_.size(), " fields where the header has ",
              header_.size());
  return true;
}

// The line that begins at at_.
void DelimitedReader::start_line() {
  ++line_;
  line_begin_ = at_;
  find_line_end();
}

void DelimitedReader::find_line_end() {
  line_end_ = std::min(bytes_.find('\n', at_), bytes_.size());
  text_end_ = line_end_ > at_ && bytes_[line_end_ - 1] == '\r' ? line_end_ - 1 : line_end_;
}

bool DelimitedReader::read_fields() {
  fields_.clear();
  while (at_ < bytes_.size() && fields_.empty()) {
    start_line();
    for (bool more = at_ < text_end_; more;) {
      Field& field = fields_.emplace_back();
      field.place = here();
      if (format_.quotes && at_ < text_end_ && bytes_[at_] == '"') {
        read_quoted(field);
      } else {
        read_plain(field);
      }
      drop_invalid(field);
      more = at_ < text_end_;
      if (more) ++at_;   // the delimiter
    }
    row_end_ = here();
    at_ = std::min(line_end_ + 1, bytes_.size());
  }
  return !fields_.empty();
}

void DelimitedReader::read_plain(Field& field) {
  const std::string_view rest = bytes_.substr(at_, text_end_ - at_);
  field.text = rest.substr(0, rest.find(format_.delimiter));
  at_ += field.text.size();
}

// Every byte is looked at a fixed number of times, whatever the quotes and lines.
void DelimitedReader::read_quoted(Field& field) {
  for (bool open = true; open;) {
    ++at_;   // the quote
    const std::size_t quote = bytes_.find('"', at_);
    if (quote == std::string_view::npos) refuse_at(field.place, "the quote that opens here is never closed");
    const std::string_view piece = bytes_.substr(at_, quote - at_);
    field.text += piece;
    for (std::size_t lf = piece.find('\n'); lf != std::string_view::npos; lf = piece.find('\n', lf + 1)) {
      ++line_;
      line_begin_ = at_ + lf + 1;
    }
    at_ = quote + 1;
    open = at_ < bytes_.size() && bytes_[at_] == '"';
    if (open) field.text += '"';
  }
  if (line_ != field.place.line) find_line_end();
  if (at_ < text_end_ && bytes_[at_] != format_.delimiter)
    refuse_at(here(), "text follows the closing quote; a quote inside a quoted field is written twice");
}

void DelimitedReader::drop_invalid(Field& field) {
  std::size_t at = first_invalid_utf8(field.text);
  if (at == field.text.size()) return;
  if (format_.strict_utf8)
    refuse_at({field.place.line, field.place.byte + at}, "this byte is not valid UTF-8");
  if (std::exchange(last_invalid_line_, field.place.line) != field.place.line) ++invalid_lines_;
  std::string valid = field.text.substr(0, at);
  while (at < field.text.size()) {
    const Utf8Step step = decode_utf8(std::string_view(field.text).substr(at));
    if (step.valid) valid.append(field.text, at, step.length);
    at += step.length;
  }
  field.text = std::move(valid);
}

}  // namespace sinter::data
