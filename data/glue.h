// GLUE's tab-separated files.
//
// Rules: UTF-8, one example a line, fields separated by one tab, the first line names the columns. Quotes are
// ordinary characters. CRLF ends a line like LF, a byte order mark before the header is dropped, lines without any
// character are skipped. Spaces at the end of a sentence (GLUE writes one before the tab) are trimmed; an empty
// sentence is kept and counted. NUL and long lines are ordinary data. No row is ever dropped in silence: a row that
// breaks a rule is an error.
#pragma once

#include <cstdint>
#include <string>

#include "data/examples.h"

namespace sinter::data {

struct TsvOptions {
  std::string sentence_column = "sentence";
  std::string label_column = "label";
  std::int64_t num_labels = 2;      ///< labels are the decimal numbers 0 .. num_labels - 1
  bool allow_unlabelled = false;    ///< accept the label -1, and files without the label column (all labels are -1)
  bool strict_utf8 = false;         ///< refuse bytes that are not UTF-8; otherwise the tokenizer drops them
};

/// Reads one file. Columns are found by name, in any order; other columns are ignored. Errors name
/// "file:line:column", both counted from 1, the column in bytes: ErrorCode::bad_input for a missing column, for a
/// column that is there twice, for a row with more or fewer fields than the header, and for a label outside the
/// set; not_found if the file is not there; io if it cannot be read. Memory: the file's bytes twice.
Examples read_tsv(const std::string& path, const TsvOptions& options = {});

struct Sst2 {
  Examples train;
  Examples validation;
};

/// The Stanford Sentiment Treebank in GLUE's form: folder/train.tsv and folder/dev.tsv, columns `sentence` and
/// `label`, 0 negative and 1 positive. Errors as read_tsv; bad_input for a split without rows.
Sst2 load_sst2(const std::string& folder);

}  // namespace sinter::data
