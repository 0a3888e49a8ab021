// Files train.tsv that break the rules of SST-2's tables, and what the refusal says.
#pragma once

#include <string>
#include <vector>

namespace sinter::testing {

struct BadTable {
  std::string bytes;
  std::string says;   ///< the whole sentence, without the folder
};

inline std::vector<BadTable> bad_tables() {
  const std::string classes = " is not one of 0 (negative) and 1 (positive)";
  std::vector<BadTable> tables = {
      {"sentence\tlabel\nab\t1\n\ncd\n", "train.tsv:4:3: the row ends after 1 of 2 fields"},
      {"sentence\tlabel\nab\t1\r\n\r\ncd\r\n", "train.tsv:4:3: the row ends after 1 of 2 fields"},
      {"sentence\tlabel\nab\t1\tz\n", "train.tsv:2:6: the row has 3 fields where the header has 2"},
      {"sentence\tlabel\nab\t1\t\n", "train.tsv:2:6: the row has 3 fields where the header has 2"},
      {"text\tlabel\nab\t1\n", "train.tsv:1:1: the header has no column \"sentence\"; its columns: text, label"},
      {"sentence\nab\n", "train.tsv:1:1: the header has no column \"label\"; its columns: sentence"},
      {"label\tsentence\tlabel\n", "train.tsv:1:16: the column \"label\" is there twice"},
      {"label\t\tsentence\n", "train.tsv:1:7: a column has no name"},
      {"", "train.tsv:1:1: the file has no header line; the first line must name the columns"},
      {"\n\r\n\n", "train.tsv:1:1: the file has no header line; the first line must name the columns"},
      {"sentence\tlabel\n", "train.tsv has a header but no rows"},
      {"sentence\tlabel\nab\tx\n", "train.tsv:2:4: the label \"x\"" + classes},
      {"sentence\tlabel\nab\t" + std::string("\0\x1B[2J", 5) + "\n", "train.tsv:2:4: the label \"??[2J\"" + classes},
      {"sentence\tlabel\nab\t" + std::string(50, '1') + "\n",
       "train.tsv:2:4: the label \"" + std::string(40, '1') + "...\"" + classes},
  };
  for (const std::string label : {"7", "-1", "1.0", "", " 1", "+1", "01", "1 ", "99999999999999999999"})
    tables.push_back({"sentence\tlabel\nab\t" + label + "\n", "train.tsv:2:4: the label \"" + label + "\"" + classes});
  return tables;
}

}  // namespace sinter::testing
