#include "data/zip.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "tests/data/zip_writer.h"

namespace sinter::data {
namespace {

class ZipTest : public ::testing::Test {
 protected:
  ~ZipTest() override { std::filesystem::remove(path_); }

  ZipArchive open(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary) << bytes;
    return ZipArchive(path_);
  }
  std::string refusal(const std::string& bytes, const std::string& name = "a", std::size_t max_bytes = 1 << 20) const {
    try {
      open(bytes).read(name, max_bytes);
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == ErrorCode::bad_input || error.code() == ErrorCode::not_found) << error.what();
      EXPECT_TRUE(std::string(error.what()).starts_with(path_.string() + ": ")) << error.what();
      return std::string(error.what()).substr(path_.string().size() + 2);
    }
    return "accepted";
  }

  std::filesystem::path path_ =
      std::filesystem::path(::testing::TempDir()) / ("sinter_zip_" + std::to_string(::getpid()) + ".zip");
};

const std::string kText(5000, 'x');

TEST_F(ZipTest, ReadsStoredAndDeflatedFiles) {
  const ZipArchive zip = open(zip_of({{"a", kText}, {"b", "plain", {.method = 0}}, {"empty", ""}}, "a comment PK\5\6"));
  EXPECT_EQ(zip.names(), (std::vector<std::string>{"a", "b", "empty"}));
  EXPECT_EQ(zip.read("a", 5000), kText);
  EXPECT_EQ(zip.read("b", 5000), "plain");
  EXPECT_EQ(zip.read("empty", 0), "");
  EXPECT_TRUE(open(zip_of({})).names().empty());
}

TEST_F(ZipTest, RefusesWhatItCannotTrust) {
  const auto one = [](const ZipClaims& claims) { return zip_of({{"a", kText, claims}}); };
  const struct {
    std::string bytes, sentence;
  } table[] = {
      {"", "this is no zip archive, or its end is missing"},
      {"text", "this is no zip archive, or its end is missing"},
      {zip_of({{"b", "x"}}), "there is no file \"a\""},
      {zip_of({{"a", "x"}, {"a", "y"}}), "the file \"a\" is there twice"},
      {one({.flags = 1}), "\"a\" is encrypted; give an archive without a password"},
      {one({.method = 12}), "\"a\" is compressed by method 12; only stored (0) and deflated (8) files are read"},
      {one({.size = 0xFFFFFFFF}), "\"a\" needs zip64; only zip archives below 4 GiB are read"},
      {one({.size = 2 << 20}), "\"a\" has 2097152 bytes, at most 1048576 are read"},
      {one({.size = 900'000}), "\"a\" claims 900000 bytes, which its 22 stored bytes cannot hold"},
      {one({.size = 5001}), "\"a\" is damaged: it cannot be inflated"},
      {one({.size = 4999}), "\"a\" is damaged: it cannot be inflated"},
      {one({.method = 0, .size = 4999}), "\"a\" has 5000 bytes, the directory says 4999"},
      {one({.checksum = 1}), "\"a\" is damaged: its checksum differs"},
      {one({.compressed_size = 10}), "\"a\" is damaged: it cannot be inflated"},
      {one({.compressed_size = 4'000'000'000}), "the data of \"a\" lies outside the archive"},
      {one({.header_offset = 4'000'000'000}), "the data of \"a\" lies outside the archive"},
      {one({.header_offset = 1}), "\"a\" does not begin where the directory says"},
      {one({.local_name = "b"}), "\"a\" has another name beside its data"},
  };
  for (const auto& row : table) EXPECT_EQ(refusal(row.bytes), row.sentence);
}

// The fields of the end record: 4 number of this disk, 8 and 10 counts, 12 size and 16 offset of the directory.
TEST_F(ZipTest, RefusesAnEndThatLies) {
  const std::string good = zip_of({{"a", kText}});
  const auto with = [&](std::size_t field, const std::string& value) {
    std::string bytes = good;
    return bytes.replace(bytes.size() - 22 + field, value.size(), value);
  };
  EXPECT_EQ(refusal(with(10, "\xFF\xFF")), "this is a zip64 archive; only zip archives below 4 GiB are read");
  EXPECT_EQ(refusal(with(16, "\xFF\xFF\xFF\xFF")), "this is a zip64 archive; only zip archives below 4 GiB are read");
  EXPECT_EQ(refusal(with(4, "\1")), "this is a part of an archive that was split; only whole zip archives are read");
  EXPECT_EQ(refusal(with(8, "\2")), "this is a part of an archive that was split; only whole zip archives are read");
  EXPECT_EQ(refusal(with(8, "\2").replace(good.size() - 12, 1, "\2")),
            "the directory of the archive is damaged at file 2 of 2");
  EXPECT_EQ(refusal(with(12, "\xFF\xFF")), "the directory of the archive, 65535 bytes at 53, lies outside the file");
  EXPECT_EQ(refusal(with(16, "\1")), "the directory of the archive is damaged at file 1 of 1");
  EXPECT_EQ(refusal(with(12, "\x2E")), "the directory of the archive ends inside file 1 of 1");
}

// Every archive that is cut off or has one byte changed is read in full or refused.
TEST_F(ZipTest, CutsAndChangedBytesNeverGiveOtherText) {
  const std::string good = zip_of({{"a", "some text that deflates, some text that deflates"}});
  for (std::size_t size = 0; size < good.size(); ++size) EXPECT_NE(refusal(good.substr(0, size)), "accepted") << size;
  for (std::size_t at = 0; at < good.size(); ++at)
    for (const int flip : {1, 16, 128, 255}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      try {
        EXPECT_EQ(open(bytes).read("a", 1 << 20), "some text that deflates, some text that deflates") << at;
      } catch (const Error& error) {
        EXPECT_TRUE(error.code() == ErrorCode::bad_input || error.code() == ErrorCode::not_found) << error.what();
      }
    }
}

}  // namespace
}  // namespace sinter::data
