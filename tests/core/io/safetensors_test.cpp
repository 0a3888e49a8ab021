#include "core/io/safetensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>

#include "tests/core/expect_error.h"
#include "tests/core/io/allocation_watch.h"
#include "tests/core/io/lying_safetensors.h"
#include "tests/core/io/scratch_folder.h"

namespace sinter {
namespace {

using kernels::Dtype;
using testing::expect_error;
using testing::safetensors_bytes;
using testing::ScratchFolder;

class Safetensors : public ::testing::Test {
 protected:
  std::filesystem::path put(std::string_view bytes) const {
    std::ofstream(folder_ / "m.safetensors", std::ios::binary | std::ios::trunc) << bytes;
    return folder_ / "m.safetensors";
  }
  SafetensorsFile open(std::string_view header, std::size_t data_bytes) const {
    return SafetensorsFile(put(safetensors_bytes(header, std::string(data_bytes, '\1'))));
  }
  /// Opening fails with this sentence, and no block is asked for that the file's own size and the 64 levels of JSON
  /// do not explain.
  void refuse(std::string_view bytes, std::string_view says) const {
    const std::filesystem::path path = put(bytes);
    const testing::AllocationWatch watch;
    expect_error([&] { SafetensorsFile file(path); }, ErrorCode::bad_input, says);
    EXPECT_LE(watch.largest(), bytes.size() + 16384) << says;
  }
  std::string sample() const {
    const float w[6] = {1, -2, 3.5f, 0, 1e-30f, 6};
    const std::int64_t ids[3] = {1, -1, std::numeric_limits<std::int64_t>::max()};
    const std::uint8_t mask[3] = {0, 1, 1};
    const SafetensorsTensor tensors[] = {{"mask", Dtype::boolean, {3}, mask}, {"b.w", Dtype::f32, {2, 3}, w},
                                         {"a.w", Dtype::f32, {}, w},          {"ids", Dtype::i64, {3, 1}, ids},
                                         {"none", Dtype::f64, {4, 0}, nullptr}};
    write_safetensors(folder_ / "sample", tensors, {{"format", "pt"}});
    return read_file(folder_ / "sample", 10'000);
  }

  ScratchFolder folder_;
};

TEST_F(Safetensors, WritesTheReferenceLayoutAndReadsItBack) {
  const std::string bytes = sample();
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"ids":{"dtype":"I64","shape":[3,1],"data_offsets":[0,24]},)"
      R"("none":{"dtype":"F64","shape":[4,0],"data_offsets":[24,24]},)"
      R"("a.w":{"dtype":"F32","shape":[],"data_offsets":[24,28]},)"
      R"("b.w":{"dtype":"F32","shape":[2,3],"data_offsets":[28,52]},)"
      R"("mask":{"dtype":"BOOL","shape":[3],"data_offsets":[52,55]}})";
  EXPECT_EQ(bytes.substr(8, header.size()), header);
  EXPECT_EQ(bytes.find_first_not_of(' ', 8 + header.size()), (8 + header.size() + 7) / 8 * 8);
  const SafetensorsFile file(folder_ / "sample");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.tensors().size(), 5u);
  EXPECT_EQ(file.at("b.w").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(file.at("b.w").dtype, Dtype::f32);
  float w[6];
  file.read("b.w", w, sizeof w);
  EXPECT_EQ(w[2], 3.5f);
  std::int64_t ids[3];
  file.read("ids", ids, sizeof ids);
  EXPECT_EQ(ids[2], std::numeric_limits<std::int64_t>::max());
  file.read("none", nullptr, 0);
  EXPECT_EQ(file.find("absent"), nullptr);
  expect_error([&] { file.at("absent"); }, ErrorCode::bad_input, "has no tensor absent");
  expect_error([&] { file.read("b.w", w, 8); }, ErrorCode::usage, "has 24 bytes, a buffer of 8 was given");
}

// The file was written by the reference implementation (tests/golden/make_goldens.py): every dtype is read, and
// writing the same tensors gives the same bytes.
TEST_F(Safetensors, AgreesWithTheReferenceImplementation) {
  const std::filesystem::path path = SINTER_SOURCE_DIR "/tests/golden/interop.safetensors";
  const SafetensorsFile file(path);
  ASSERT_EQ(file.tensors().size(), 10u);
  double f64[6];
  kernels::f16 f16[6];
  kernels::bf16 bf16[6];
  std::int32_t i32[2];
  file.read("f64", f64, sizeof f64);
  file.read("f16", f16, sizeof f16);
  file.read("bf16", bf16, sizeof bf16);
  file.read("i32", i32, sizeof i32);
  EXPECT_EQ(f64[1], -1.5);
  EXPECT_EQ(to_float(f16[4]), -65504.0f);
  EXPECT_EQ(to_float(bf16[2]), 2.0f);
  EXPECT_EQ(i32[0], std::numeric_limits<std::int32_t>::min());
  std::vector<std::vector<char>> values;
  std::vector<SafetensorsTensor> tensors;
  for (const SafetensorsEntry& entry : file.tensors()) {
    values.emplace_back(entry.bytes());
    file.read(entry.name, values.back().data(), entry.bytes());
    tensors.push_back({entry.name, entry.dtype, entry.shape, values.back().data()});
  }
  std::ranges::reverse(tensors);
  write_safetensors(folder_ / "again", tensors, file.metadata());
  EXPECT_EQ(read_file(folder_ / "again", 10'000), read_file(path, 10'000));
}

TEST_F(Safetensors, AcceptsWhatTheReferenceAccepts) {
  EXPECT_EQ(open("{}", 0).tensors().size(), 0u);
  EXPECT_EQ(open("\n {} \t ", 0).tensors().size(), 0u);
  EXPECT_EQ(open(R"({"w":{"dtype":"F16","shape":[2,0],"data_offsets":[0,0]}})", 0).tensors().size(), 1u);
  EXPECT_EQ(open(R"({"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4).at("w").shape.size(), 0u);
  EXPECT_EQ(open(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},)"
                 R"("a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},)"
                 R"("z":{"dtype":"U8","shape":[0],"data_offsets":[4,4]}})", 6).tensors()[0].name, "a");
}

TEST_F(Safetensors, RefusesLies) {
  for (const testing::LyingFile& file : testing::LyingFiles()) refuse(file.bytes, file.says);
}

TEST_F(Safetensors, RefusesBooleansThatAreNoBooleans) {
  const char* header = R"({"m":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})";
  const SafetensorsFile file(put(safetensors_bytes(header, "\1\1\2")));
  std::uint8_t mask[3];
  expect_error([&] { file.read("m", mask, 3); }, ErrorCode::bad_input, "has the byte 2 at 2");
}

TEST_F(Safetensors, RefusesToWriteWhatCannotBeRead) {
  const float w[2] = {};
  const SafetensorsTensor twice[] = {{"w", Dtype::f32, {2}, w}, {"w", Dtype::f32, {1}, w}};
  expect_error([&] { write_safetensors(folder_ / "t", twice); }, ErrorCode::usage, "w twice");
  const SafetensorsTensor reserved[] = {{"__metadata__", Dtype::f32, {2}, w}};
  expect_error([&] { write_safetensors(folder_ / "t", reserved); }, ErrorCode::usage, "__metadata__");
  const SafetensorsTensor negative[] = {{"w", Dtype::f32, {-2}, w}};
  expect_error([&] { write_safetensors(folder_ / "t", negative); }, ErrorCode::usage, "negative");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "t"));
}

TEST_F(Safetensors, TruncatedAtEveryByteIsRefused) {
  const std::string bytes = sample();
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_THROW(SafetensorsFile file(put(bytes.substr(0, length))), Error) << length;
}

TEST_F(Safetensors, AFileThatShrinksAfterOpeningIsAnError) {
  const auto path = put(sample());
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 10);
  std::uint8_t mask[3];
  expect_error([&] { file.read("mask", mask, 3); }, ErrorCode::bad_input, "became shorter");
}

// Replaces one random number, bracket, name or byte of a sound header by something near it. Whatever opens must obey
// the rules, and reading it must stay inside the file.
TEST_F(Safetensors, MutantsAreRefusedOrSound) {
  const std::string bytes = sample();
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  const std::string header = bytes.substr(8, header_bytes);
  const std::string data = bytes.substr(8 + header_bytes);
  const std::string_view pieces[] = {"0", "-1", "1", "4", "24", "28", "52", "55", "9223372036854775807",
                                     "18446744073709551615", "4611686018427387904", "1e3", "\"F16\"", "\"I64\"",
                                     "\"BOOL\"",
                                     "null", "[]", "{}", ",", "]", "}", "\"a.w\"", "\"ids\"", "\"__metadata__\"",
                                     "\"dtype\"",
                                     "\xff", "\\u0061", ""};
  std::mt19937 random(7);
  const auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  int opened = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string mutant = header;
    for (std::size_t edits = 1 + below(2); edits > 0; --edits) {
      std::size_t at = below(mutant.size());
      const std::size_t token = mutant.find_first_of("0123456789\"", at);
      if (below(4) != 0 && token != std::string::npos) at = token;
      std::size_t length = 1;
      if (mutant[at] == '"') length = mutant.find('"', at + 1) - at + 1;
      while (at + length < mutant.size() && std::isdigit(static_cast<unsigned char>(mutant[at])) &&
             std::isdigit(static_cast<unsigned char>(mutant[at + length])))
        ++length;
      mutant.replace(at, std::min(length, mutant.size() - at), pieces[below(std::size(pieces))]);
    }
    std::string whole = safetensors_bytes(mutant, data);
    if (below(10) == 0) whole[below(8)] = static_cast<char>(random());
    try {
      const SafetensorsFile file(put(whole));
      ++opened;
      std::uint64_t end = 0;
      for (const SafetensorsEntry& entry : file.tensors()) {
        ASSERT_EQ(entry.begin, end);
        end = entry.end;
        ASSERT_LE(end, data.size());
        std::vector<char> buffer(entry.bytes());
        file.read(entry.name, buffer.data(), buffer.size());
      }
      ASSERT_EQ(end, data.size());
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::bad_input) << error.what();
    }
  }
  EXPECT_GT(opened, 100);  // else the mutants are too wild to test what lies behind the parser
}

}  // namespace
}  // namespace sinter
