#include "data/glue.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "core/error.h"

namespace sinter::data {
namespace {

// A folder of this test, removed with it.
class GlueTest : public ::testing::Test {
 protected:
  GlueTest() {
    folder_ = std::filesystem::path(::testing::TempDir()) / ("sinter_glue_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  ~GlueTest() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& bytes) const {
    const std::string path = (folder_ / name).string();
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  Examples read(const std::string& bytes, const TsvOptions& options = {}) const {
    return read_tsv(write("file.tsv", bytes), options);
  }
  // The part of the message behind the folder.
  std::string refusal(const std::string& bytes, const TsvOptions& options = {}) const {
    try {
      read(bytes, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::bad_input);
      return std::string(error.what()).substr(folder_.string().size() + 1);
    }
    return "accepted";
  }

  std::filesystem::path folder_;
};

TEST_F(GlueTest, ReadsBothFormsOfGlue) {
  const Examples e = read("sentence\tlabel\nhide new secretions \t0\na charming film\t1");
  EXPECT_EQ(e.sentence, (std::vector<std::string>{"hide new secretions", "a charming film"}));
  EXPECT_EQ(e.label, (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(e.empty_sentences, 0);
}

TEST_F(GlueTest, LineEndsMarkQuotesAndBlankLines) {
  const Examples plain = read("sentence\tlabel\n\"a\t1\nb \"\" c\t0\n");
  EXPECT_EQ(plain.sentence, (std::vector<std::string>{"\"a", "b \"\" c"}));
  const Examples odd = read("\xEF\xBB\xBFsentence\tlabel\r\n\r\n\"a\t1\r\n\nb \"\" c\t0\r\n");
  EXPECT_EQ(odd.sentence, plain.sentence);
  EXPECT_EQ(odd.label, plain.label);
}

TEST_F(GlueTest, FindsColumnsByName) {
  const Examples e = read("index\tlabel\tsentence\n0\t1\tgood\n1\t0\tbad\n");
  EXPECT_EQ(e.sentence, (std::vector<std::string>{"good", "bad"}));
  EXPECT_EQ(e.label, (std::vector<std::int64_t>{1, 0}));
}

TEST_F(GlueTest, KeepsAndCountsEmptySentences) {
  const Examples e = read("sentence\tlabel\n\t1\n   \t0\nx\t1\n");
  EXPECT_EQ(e.size(), 3);
  EXPECT_EQ(e.empty_sentences, 2);
}

TEST_F(GlueTest, LongLinesAndNul) {
  const std::string text = std::string(10'000'000, 'x') + std::string("\0y", 2);
  const Examples e = read("sentence\tlabel\n" + text + "\t1\n");
  ASSERT_EQ(e.size(), 1);
  EXPECT_TRUE(e.sentence[0] == text);
}

TEST_F(GlueTest, RefusalsNameThePlace) {
  EXPECT_EQ(refusal("sentence\tlabel\nab\t1\n\ncd\n"), "file.tsv:4:3: the row ends after 1 of 2 fields.");
  EXPECT_EQ(refusal("sentence\tlabel\nab\t1\tz\n"), "file.tsv:2:6: the row has 3 fields where the header has 2.");
  EXPECT_EQ(refusal("text\tlabel\nab\t1\n"), "file.tsv:1:1: the header has no column \"sentence\".");
  EXPECT_EQ(refusal("sentence\nab\n"), "file.tsv:1:1: the header has no column \"label\".");
  EXPECT_EQ(refusal("label\tsentence\tlabel\n"), "file.tsv:1:16: the column \"label\" is there twice.");
  EXPECT_EQ(refusal(""), "file.tsv:1:1: the file has no header line; the first line must name the columns.");
  EXPECT_EQ(refusal("sentence\tlabel\nab\tx\n"), "file.tsv:2:4: the label \"x\" is not one of 0 to 1.");
  for (const char* label : {"7", "-1", "1.0", "", " 1", "+1", "01", "1 ", "99999999999999999999"}) {
    EXPECT_TRUE(refusal("sentence\tlabel\nab\t" + std::string(label) + "\n").starts_with("file.tsv:2:4: the label \""))
        << label;
  }
}

TEST_F(GlueTest, UnlabelledOnlyByOption) {
  TsvOptions options;
  options.allow_unlabelled = true;
  EXPECT_EQ(read("sentence\tlabel\nab\t-1\ncd\t1\n", options).label, (std::vector<std::int64_t>{-1, 1}));
  EXPECT_EQ(read("index\tsentence\n0\tab\n", options).label, (std::vector<std::int64_t>{-1}));
  EXPECT_NE(refusal("sentence\tlabel\nab\t-2\n", options), "accepted");
}

TEST_F(GlueTest, InvalidUtf8OnlyRefusedByOption) {
  EXPECT_EQ(read("sentence\tlabel\na\xFF\t1\n").sentence[0], "a\xFF");
  TsvOptions options;
  options.strict_utf8 = true;
  EXPECT_EQ(refusal("sentence\tlabel\na\xFF\t1\n", options), "file.tsv:2:2: this byte is not valid UTF-8.");
}

TEST_F(GlueTest, MissingFilesAndFolders) {
  try {
    load_sst2((folder_ / "nowhere").string());
    ADD_FAILURE() << "a missing folder was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
  }
  EXPECT_THROW(read_tsv(folder_.string()), Error);
  write("train.tsv", "sentence\tlabel\nab\t1\n");
  write("dev.tsv", "sentence\tlabel\n");
  EXPECT_THROW(load_sst2(folder_.string()), Error);
  write("dev.tsv", "sentence\tlabel\ncd\t0\n");
  const Sst2 sst2 = load_sst2(folder_.string());
  EXPECT_EQ(sst2.train.sentence[0], "ab");
  EXPECT_EQ(sst2.validation.label[0], 0);
}

// Any bytes are read or refused with bad_input; nothing crashes and no row vanishes.
TEST_F(GlueTest, RandomBytes) {
  std::mt19937 engine(1);
  const std::string alphabet("\t\t\t\n\n\r01ab \"\0\xFF\xEF\xBB\xBF", 18);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = round % 2 == 0 ? "sentence\tlabel\n" : "";
    const std::size_t length = engine() % 60;
    for (std::size_t i = 0; i < length; ++i) bytes += alphabet[engine() % alphabet.size()];
    TsvOptions options;
    options.allow_unlabelled = round % 3 == 0;
    options.strict_utf8 = round % 5 == 0;
    try {
      const Examples e = read(bytes, options);
      EXPECT_EQ(e.sentence.size(), e.label.size());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::bad_input) << error.what();
    }
  }
}

TEST(Sst2, TheRealFiles) {
  const std::string folder = std::string(SINTER_SOURCE_DIR) + "/../shared/data/SST-2";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "SST-2 is not at " << folder;
  const Sst2 sst2 = load_sst2(folder);
  EXPECT_EQ(sst2.train.size(), 67349);
  EXPECT_EQ(sst2.validation.size(), 872);
  EXPECT_EQ(sst2.train.empty_sentences, 0);
}

}  // namespace
}  // namespace sinter::data
