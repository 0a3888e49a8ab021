// Text tables: tab-separated files as GLUE writes them, and comma-separated ones.
//
// Rules: UTF-8; one row a line; the first line names the columns. CRLF ends a line like LF, a byte order mark before
// the header is dropped, lines without any character are skipped, NUL and long lines are ordinary data. In
// tab-separated files quotes are ordinary characters; in comma-separated ones a field may stand in quotes, which then
// may hold commas, line ends and doubled quotes (RFC 4180). No row is ever dropped in silence: one that breaks a rule
// is an error that names "file:line:column", both counted from 1, the column in bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace sinter::data {

/// A file with more bytes is refused: tables are read as a whole.
inline constexpr std::size_t kMaxTableBytes = std::size_t{4} << 30;

struct DelimitedFormat {
  char delimiter = '\t';
  bool quotes = false;        ///< fields may be quoted
  bool strict_utf8 = false;   ///< refuse bytes that are not UTF-8; otherwise they are dropped, and their lines counted
};

/// Reads the rows of a file one behind the other. All errors are ErrorCode::bad_input: no header, a column without a
/// name or named twice, a row with more or fewer fields than the header, a quote that does not end or is followed by
/// text.
class DelimitedReader {
 public:
  /// Reads the header. `bytes` must outlive the reader; `source` stands for the file in messages.
  DelimitedReader(std::string source, std::string_view bytes, const DelimitedFormat& format);

  const std::vector<std::string>& header() const { return header_; }
  /// Index of a column. bad_input, naming those that exist, when it is absent.
  std::size_t column(const std::string& name) const;
  bool has_column(const std::string& name) const;

  /// Reads the next row; false at the end of the file.
  bool next();
  /// The row's value of a column, which may be moved away.
  std::string& field(std::size_t column) { return fields_[column].text; }
  /// Throws the error of a value that only the caller knows to be wrong, at the place of that field.
  template <class... Parts>
  [[noreturn]] void refuse(std::size_t column, const Parts&... parts) const {
    refuse_at(fields_[column].place, parts...);
  }

  /// After the last row: one warning that counts the lines of which bytes were dropped, where there are any.
  void report_dropped() const;

 private:
  struct Place {
    std::int64_t line = 1;
    std::size_t byte = 0;   ///< in its line, counted from 0
  };
  struct Field {
    std::string text;
    Place place;
  };

  template <class... Parts>
  [[noreturn]] void refuse_at(const Place& place, const Parts&... parts) const {
    fail(ErrorCode::bad_input, source_, ":", place.line, ":", place.byte + 1, ": ", parts...);
  }

  bool read_fields();
  void read_plain(Field& field);
  void read_quoted(Field& field);
  void start_line();
  void find_line_end();
  void drop_invalid(Field& field);
  Place here() const { return {line_, at_ - line_begin_}; }

  std::string source_;
  std::string_view bytes_;
  DelimitedFormat format_;
  std::vector<std::string> header_;
  std::vector<Field> fields_;
  std::size_t at_ = 0;           // the next byte
  std::size_t line_begin_ = 0;   // of the line that at_ is in
  std::size_t line_end_ = 0;     // its LF or the end of the file
  std::size_t text_end_ = 0;     // the same, without the CR of CRLF
  std::int64_t line_ = 0;
  Place row_end_;
  std::int64_t invalid_lines_ = 0;
  std::int64_t last_invalid_line_ = 0;
};

}  // namespace sinter::data
