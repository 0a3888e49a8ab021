// GLUE's SST-2: the Stanford Sentiment Treebank in the form of train.tsv, dev.tsv and test.tsv.
#pragma once

#include <string>

#include "data/dataset.h"

namespace sinter::data {

/// The end of a sentence about SST-2 that is not there.
extern const char* const kHowToGetSst2;

/// Reads `data_dir`: the folder with the files, GLUE's SST-2.zip, or a folder that has either by the name SST-2. The
/// splits are those whose files are there: "train" (train.tsv), "validation" (dev.tsv), "test" (test.tsv).
///
/// Columns: sentence, as in the file; label, whose classes are "negative" (0) and "positive" (1), and which is -1 in a
/// test split; idx, the row's number or, in a test file, its column "index". Files follow data/delimited.h; other
/// columns are passed over. Empty sentences are kept, as [CLS] [SEP]; they, and lines with bytes that are not UTF-8,
/// are counted in one warning a file. ErrorCode::bad_input, with "file:line:column", for what breaks a rule: a column
/// that is missing, a label that is not one of its classes; also for a file without rows, and for one that is a folder
/// or a pipe. not_found where none of the files is there.
DatasetDict load_sst2(const std::string& data_dir, bool strict_utf8 = false);

}  // namespace sinter::data
