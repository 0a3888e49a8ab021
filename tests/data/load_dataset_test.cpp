// load_dataset: GLUE's SST-2 as a folder and as a zip file, own tables, and what each breach of the rules says.
#include "data/load_dataset.h"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "core/error.h"
#include "core/log.h"
#include "tests/core/expect_error.h"
#include "tests/data/bad_tables.h"
#include "tests/data/zip_writer.h"

namespace sinter::data {
namespace {

namespace fs = std::filesystem;

using I64 = std::vector<std::int64_t>;
using Texts = std::vector<std::string>;

const std::string kHow = "GLUE publishes it: curl -LO https://dl.fbaipublicfiles.com/glue/data/SST-2.zip, and then "
                         "data_dir is SST-2.zip";

// A folder of this test, removed with it, and the warnings that were given.
class LoadDataset : public ::testing::Test {
 protected:
  LoadDataset() {
    folder_ = fs::path(::testing::TempDir()) / ("sinter_load_dataset_" + std::to_string(::getpid()));
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    set_log_sink([this](const std::string& sentence) { warnings_.push_back(without_folder(sentence)); });
  }
  ~LoadDataset() override {
    set_log_sink({});
    fs::remove_all(folder_);
  }

  std::string without_folder(std::string text) const {
    const std::string prefix = folder_.string() + "/";
    for (std::size_t at; (at = text.find(prefix)) != std::string::npos;) text.erase(at, prefix.size());
    return text;
  }
  void write(const std::string& name, const std::string& bytes) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
  }
  DatasetDict sst2(const LoadDatasetOptions& options = {}) const {
    LoadDatasetOptions here = options;
    if (here.data_dir.empty()) here.data_dir = folder_.string();
    return load_dataset("glue", "sst2", here);
  }
  Dataset train(const std::string& bytes, const LoadDatasetOptions& options = {}) const {
    write("train.tsv", bytes);
    return sst2(options)["train"];
  }
  template <class Call>
  std::string refusal(const Call& call, ErrorCode code = ErrorCode::bad_input) const {
    return without_folder(testing::refusal(call, code));
  }
  std::string refused_train(const std::string& bytes, const LoadDatasetOptions& options = {}) const {
    return refusal([&] { train(bytes, options); });
  }

  fs::path folder_;
  Texts warnings_;
};

TEST_F(LoadDataset, ReadsGluesFolder) {
  write("train.tsv", "sentence\tlabel\nhide new secretions \t0\na charming film\t1");
  write("dev.tsv", "sentence\tlabel\nfine\t1\n");
  write("test.tsv", "index\tsentence\n7\tuneasy mishmash\n8\tgood\n");
  const DatasetDict d = sst2();
  EXPECT_EQ(d.split_names(), (Texts{"test", "train", "validation"}));
  EXPECT_EQ(d["train"].column_names(), (Texts{"idx", "label", "sentence"}));
  EXPECT_EQ(d["train"].column("sentence").texts(), (Texts{"hide new secretions ", "a charming film"}));
  EXPECT_EQ(d["train"].column("label").integers(), (I64{0, 1}));
  EXPECT_EQ(d["train"].column("idx").integers(), (I64{0, 1}));
  EXPECT_EQ(d["train"].features().at("label").names, (Texts{"negative", "positive"}));
  EXPECT_EQ(d["test"].column("label").integers(), (I64{-1, -1}));
  EXPECT_EQ(d["test"].column("idx").integers(), (I64{7, 8}));
  EXPECT_TRUE(warnings_.empty());
  // The same by its other names, and by its path.
  for (const char* name : {"glue/sst2", "sst2", "stanfordnlp/sst2"})
    EXPECT_EQ(load_dataset(name, {.data_dir = folder_.string()}).size(), 3u);
  EXPECT_EQ(load_dataset("nyu-mll/glue", "sst2", {.data_dir = folder_.string()}).size(), 3u);
  EXPECT_EQ(load_dataset(folder_.string()).size(), 3u);
}

TEST_F(LoadDataset, SplitsThatAreAbsentAreNotThere) {
  write("dev.tsv", "sentence\tlabel\nfine\t1\n");
  const DatasetDict d = sst2();
  EXPECT_EQ(d.split_names(), (Texts{"validation"}));
  EXPECT_EQ(refusal([&] { d["train"]; }, ErrorCode::usage), "there is no split \"train\"; the splits: validation");
}

TEST_F(LoadDataset, LineEndsMarkQuotesAndBlankLines) {
  const Dataset plain = train("sentence\tlabel\n\"a\t1\nb \"\" c\t0\n");
  EXPECT_EQ(plain.column("sentence").texts(), (Texts{"\"a", "b \"\" c"}));
  const Dataset odd = train("\xEF\xBB\xBFsentence\tlabel\r\n\r\n\"a\t1\r\n\nb \"\" c\t0\r\n");
  EXPECT_EQ(odd.column("sentence").texts(), plain.column("sentence").texts());
  EXPECT_EQ(odd.column("label").integers(), plain.column("label").integers());
  EXPECT_EQ(train("sentence\tlabel\na\rb\t1").column("sentence").texts(), (Texts{"a\rb"}));
}

TEST_F(LoadDataset, ColumnsAreFoundByName) {
  const Dataset d = train("other\tlabel\tsentence\n0\t1\tgood\n1\t0\tbad\n");
  EXPECT_EQ(d.column("sentence").texts(), (Texts{"good", "bad"}));
  EXPECT_EQ(d.column("label").integers(), (I64{1, 0}));
  EXPECT_FALSE(d.has_column("other"));
}

TEST_F(LoadDataset, EmptySentencesAreKeptWithOneWarning) {
  EXPECT_EQ(train("sentence\tlabel\n\t1\n   \t0\nx\t1\n").size(), 3);
  EXPECT_EQ(warnings_, (Texts{"train.tsv: 2 sentences are empty; they are kept, as [CLS] [SEP]"}));
}

TEST_F(LoadDataset, InvalidUtf8IsDroppedWithOneWarningOrRefused) {
  const std::string bytes = "sentence\tlabel\na\xFF" "b\xE2\x82\t1\nfine\t0\n\xC3\xA9\xC3\t1\n";
  EXPECT_EQ(train(bytes).column("sentence").texts(), (Texts{"ab", "fine", "\xC3\xA9"}));
  EXPECT_EQ(warnings_, (Texts{"train.tsv: 2 lines held bytes that are not UTF-8, which were dropped"}));
  EXPECT_EQ(refused_train(bytes, {.strict_utf8 = true}), "train.tsv:2:2: this byte is not valid UTF-8");
  EXPECT_EQ(refused_train("sentence\tlabel\nab\xFF\t7\n"),
            "train.tsv:2:5: the label \"7\" is not one of 0 (negative) and 1 (positive)");
}

TEST_F(LoadDataset, LongLinesAndNul) {
  const std::string text = std::string(10'000'000, 'x') + std::string("\0y", 2);
  const Dataset d = train("sentence\tlabel\n" + text + "\t1\n");
  ASSERT_EQ(d.size(), 1);
  EXPECT_TRUE(d.column("sentence").texts()[0] == text);
}

TEST_F(LoadDataset, BreachesOfTheRulesNameThePlace) {
  for (const testing::BadTable& table : testing::bad_tables()) EXPECT_EQ(refused_train(table.bytes), table.says);
}

TEST_F(LoadDataset, UnknownLabelsOnlyInATestSplit) {
  write("test.tsv", "sentence\tlabel\nab\t-1\ncd\t1\n");
  EXPECT_EQ(sst2()["test"].column("label").integers(), (I64{-1, 1}));
  EXPECT_EQ(sst2()["test"].column("idx").integers(), (I64{0, 1}));
  write("test.tsv", "sentence\tlabel\nab\t-2\n");
  EXPECT_EQ(refusal([&] { sst2(); }),
            "test.tsv:2:4: the label \"-2\" is not one of 0 (negative) and 1 (positive), nor -1 (unknown)");
  write("test.tsv", "index\tsentence\n1.5\tab\n");
  EXPECT_EQ(refusal([&] { sst2(); }), "test.tsv:2:1: the index \"1.5\" is not an integer");
}

TEST_F(LoadDataset, WhatIsNoFileIsRefusedAndNothingHangs) {
  fs::create_directories(folder_ / "train.tsv");
  EXPECT_EQ(refusal([&] { sst2(); }), "train.tsv is a folder, a regular file is needed");
  fs::remove_all(folder_ / "train.tsv");
  ASSERT_EQ(::mkfifo((folder_ / "train.tsv").c_str(), 0600), 0);
  EXPECT_EQ(refusal([&] { sst2(); }), "train.tsv is a device or a pipe, a regular file is needed");
  EXPECT_EQ(refusal([&] { sst2({.data_dir = (folder_ / "train.tsv").string()}); }),
            "train.tsv is a device or a pipe, a regular file is needed");
  EXPECT_EQ(refusal([&] { load_dataset("tsv", {.data_files = {{"train", (folder_ / "train.tsv").string()}}}); }),
            "train.tsv is a device or a pipe, a regular file is needed");
}

TEST_F(LoadDataset, WhatIsNotThereSaysHowToGetIt) {
  const std::string nowhere = (folder_ / "nowhere").string();
  EXPECT_EQ(refusal([&] { sst2({.data_dir = nowhere}); }, ErrorCode::not_found),
            "data_dir nowhere does not exist; " + kHow);
  EXPECT_EQ(refusal([&] { load_dataset("glue", "sst2"); }, ErrorCode::usage),
            "load_dataset(\"glue\", \"sst2\") needs data_dir, the folder or zip file of GLUE's SST-2; " + kHow);
  fs::create_directories(folder_ / "empty");
  EXPECT_EQ(refusal([&] { sst2({.data_dir = (folder_ / "empty").string()}); }, ErrorCode::not_found),
            "data_dir empty holds none of train.tsv, dev.tsv, test.tsv and SST-2.zip; " + kHow);
  EXPECT_EQ(refusal([&] { load_dataset("csv", {.data_files = {{"train", nowhere}}}); }, ErrorCode::not_found),
            "cannot open nowhere: No such file or directory");
}

TEST_F(LoadDataset, NamesAndOptionsThatAreNotServed) {
  const std::string served = " is not served; those that are: \"glue\", \"sst2\" with data_dir; \"csv\" and \"tsv\" "
                             "with data_files; the path of an SST-2 folder or zip file";
  const auto usage = [&](const auto& call) { return refusal(call, ErrorCode::usage); };
  EXPECT_EQ(usage([] { load_dataset("glue", "mrpc", {.data_dir = "x"}); }), "the data set \"glue\", \"mrpc\"" + served);
  EXPECT_EQ(usage([] { load_dataset("imdb"); }), "the data set \"imdb\"" + served);
  EXPECT_EQ(usage([] { load_dataset("glue", {.data_dir = "x"}); }), "the data set \"glue\"" + served);
  EXPECT_EQ(usage([] { load_dataset("csv"); }),
            "load_dataset(\"csv\") takes data_files, one for each split, such as {{\"train\", \"train.csv\"}}, and no "
            "data_dir");
  EXPECT_EQ(usage([] { load_dataset("glue", "sst2", {.data_dir = "x", .data_files = {{"train", "x"}}}); }),
            "load_dataset(\"glue\", \"sst2\") takes data_dir and no data_files; own files are read by "
            "load_dataset(\"csv\") and load_dataset(\"tsv\")");
  EXPECT_EQ(usage([&] { load_dataset(folder_.string(), {.data_dir = "x"}); }),
            "load_dataset was given the path " + folder_.string() + " and the data_dir x; give one of them");
}

TEST_F(LoadDataset, ReadsGluesZipFile) {
  const Texts rows = {"sentence\tlabel\ngood \t1\n", "sentence\tlabel\nbad\t0\n", "index\tsentence\n0\tso so\n"};
  write("SST-2.zip", zip_of({{"SST-2/", ""}, {"SST-2/original/README.txt", "words"}, {"SST-2/train.tsv", rows[0]},
                             {"SST-2/dev.tsv", rows[1], {.method = 0}}, {"SST-2/test.tsv", rows[2]}}));
  for (const fs::path& path : {folder_ / "SST-2.zip", folder_}) {
    const DatasetDict d = sst2({.data_dir = path.string()});
    EXPECT_EQ(d.split_names(), (Texts{"test", "train", "validation"}));
    EXPECT_EQ(d["train"].column("sentence").texts(), (Texts{"good "}));
    EXPECT_EQ(d["validation"].column("label").integers(), (I64{0}));
  }
  EXPECT_EQ(load_dataset((folder_ / "SST-2.zip").string()).size(), 3u);
  const auto refused = [&](const std::vector<ZipFile>& files, ErrorCode code = ErrorCode::bad_input) {
    write("SST-2.zip", zip_of(files));
    return refusal([&] { sst2(); }, code);
  };
  EXPECT_EQ(refused({{"SST-2/train.tsv", "sentence\tlabel\nbad\t2\n"}}),
            "SST-2.zip/SST-2/train.tsv:2:5: the label \"2\" is not one of 0 (negative) and 1 (positive)");
  EXPECT_EQ(refused({{"train.tsv", rows[0]}, {"SST-2/train.tsv", rows[0]}}),
            "SST-2.zip: \"train.tsv\" and \"SST-2/train.tsv\" are both there; an archive holds one data set");
  EXPECT_EQ(refused({{"a/b/train.tsv", rows[0]}}, ErrorCode::not_found),
            "SST-2.zip holds none of train.tsv, dev.tsv and test.tsv; " + kHow);
  write("SST-2/dev.tsv", rows[1]);   // a folder beside the zip file wins
  EXPECT_EQ(sst2().split_names(), (Texts{"validation"}));
}

TEST_F(LoadDataset, OwnTables) {
  write("a.tsv", "text\tn\tscore\tmixed\n\"x\t-1\t0.5\t1\ny, z\t20\t1e3\t1x\n");
  write("b.csv", "\xEF\xBB\xBFtext,label\r\n\"a, \"\"b\"\"\nc\",1\r\n\r\nplain \"text\",0\r\n\"\",1\r\n");
  const DatasetDict tsv = load_dataset("tsv", {.data_files = {{"train", (folder_ / "a.tsv").string()}}});
  EXPECT_EQ(tsv["train"].column("text").texts(), (Texts{"\"x", "y, z"}));
  EXPECT_EQ(tsv["train"].column("n").integers(), (I64{-1, 20}));
  EXPECT_EQ(tsv["train"].column("score").reals(), (std::vector<double>{0.5, 1000}));
  EXPECT_EQ(tsv["train"].column("mixed").texts(), (Texts{"1", "1x"}));
  const std::string file = (folder_ / "b.csv").string();
  const DatasetDict csv = load_dataset("csv", {.data_files = {{"train", file}, {"other", file}}});
  EXPECT_EQ(csv.split_names(), (Texts{"other", "train"}));
  EXPECT_EQ(csv["other"].column("text").texts(), (Texts{"a, \"b\"\nc", "plain \"text\"", ""}));
  EXPECT_EQ(csv["other"].column("label").integers(), (I64{1, 0, 1}));

  const struct {
    std::string bytes, sentence;
  } table[] = {
      {"a,b\n1,\"x\n", "b.csv:2:3: the quote that opens here is never closed"},
      {"a,b\n\"x\n\ny\"z,1\n",
       "b.csv:4:3: text follows the closing quote; a quote inside a quoted field is written twice"},
      {"a,b\n\"x\ny\"\n", "b.csv:3:3: the row ends after 1 of 2 fields"},
      {"a,b\n\"x\ny\",1,2\n", "b.csv:3:6: the row has 3 fields where the header has 2"},
      {"a,a\n1,2\n", "b.csv:1:3: the column \"a\" is there twice"},
  };
  for (const auto& row : table) {
    write("b.csv", row.bytes);
    EXPECT_EQ(refusal([&] { load_dataset("csv", {.data_files = {{"train", file}}}); }), row.sentence);
  }
}

// Time that grows with the square of a line's length would not come back from these.
TEST_F(LoadDataset, LongQuotedLinesTakeLinearTime) {
  const auto load = [&](const std::string& bytes) {
    write("long.csv", bytes);
    return load_dataset("csv", {.data_files = {{"train", (folder_ / "long.csv").string()}}})["train"];
  };
  std::string fields = "text\n\"", lines = "text\n\"";
  for (int i = 0; i < 3'000'000; ++i) fields += "\"\"", lines += "\n\"\"";
  EXPECT_EQ(load(fields + "\"\n").column("text").texts()[0].size(), 3'000'000u);
  EXPECT_EQ(load(lines + "\"\n").column("text").texts()[0].size(), 6'000'000u);
  std::string header = "a0", row = "\"\"";
  for (int i = 1; i < 1000; ++i) header += ",a" + std::to_string(i);
  EXPECT_EQ(refusal([&] { load(header + "\n" + row + std::string(2'000'000, ',') + "\n"); }),
            "long.csv:2:1003: the row has 2000001 fields where the header has 1000");
}

// Any bytes are read or refused with bad_input; nothing crashes and no row vanishes.
TEST_F(LoadDataset, RandomBytes) {
  std::mt19937 engine(1);
  const std::string alphabet("\t\t\t\n\n\r01ab \"\",\0\xFF\xEF\xBB\xBF", 20);
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = round % 2 == 0 ? "sentence\tlabel\n" : "a,b\n";
    const std::size_t length = engine() % 60;
    for (std::size_t i = 0; i < length; ++i) bytes += alphabet[engine() % alphabet.size()];
    const bool strict = round % 5 == 0;
    try {
      if (round % 2 == 0) {
        train(bytes, {.strict_utf8 = strict});
      } else {
        write("x.csv", bytes);
        load_dataset("csv", {.data_files = {{"train", (folder_ / "x.csv").string()}}, .strict_utf8 = strict});
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::bad_input) << error.what();
    }
  }
}

TEST(Sst2, TheRealFiles) {
  const std::string folder = std::string(SINTER_SOURCE_DIR) + "/../shared/data/SST-2";
  if (!fs::exists(folder)) GTEST_SKIP() << "SST-2 is not at " << folder;
  const DatasetDict d = load_dataset("glue", "sst2", {.data_dir = folder});
  EXPECT_EQ(d["train"].size(), 67349);
  EXPECT_EQ(d["validation"].size(), 872);
  EXPECT_EQ(d["validation"][0].text("sentence").substr(0, 28), "one long string of cliches .");
}

}  // namespace
}  // namespace sinter::data
