// Weights in several files: what an index may say, and one sentence for each lie.
#include "core/io/safetensors_set.h"

#include <gtest/gtest.h>

#include "core/io/json.h"
#include "core/io/shown.h"
#include "tests/core/expect_error.h"
#include "tests/core/io/scratch_folder.h"

namespace sinter {
namespace {

using kernels::Dtype;
using testing::expect_error;
using testing::ScratchFolder;

class SafetensorsSetTest : public ::testing::Test {
 protected:
  SafetensorsSetTest() {
    shard("one", {"a", "b"});
    shard("two", {"c"});
  }
  /// A file with tensors of 8 bytes.
  void shard(const std::string& name, const std::vector<std::string>& tensors) const {
    const float values[2] = {1, 2};
    std::vector<SafetensorsTensor> list;
    for (const std::string& tensor : tensors) list.push_back({tensor, Dtype::f32, {2}, values});
    write_safetensors(folder_ / name, list);
  }
  SafetensorsSet open(std::string_view index) const {
    write_file_atomically(folder_ / "model.safetensors.index.json", index);
    return SafetensorsSet(folder_ / "model.safetensors.index.json");
  }
  void refuse(std::string_view index, std::string_view says) const {
    SCOPED_TRACE(index);
    expect_error([&] { open(index); }, ErrorCode::bad_input, says);
  }

  ScratchFolder folder_;
};

TEST_F(SafetensorsSetTest, OpensAnIndexAndASingleFile) {
  const char* metadata[] = {"", R"("metadata": null, )", R"("metadata": {}, )", R"("metadata": {"total_size": 24}, )",
                            R"("metadata": {"total_size": 2.4e1, "total_parameters": 6}, )"};
  for (const char* text : metadata) {
    const SafetensorsSet set =
        open(std::string("{") + text + R"("weight_map": {"c": "two", "a": "one", "b": "one"}})");
    EXPECT_EQ(set.bytes(), 24u);
    ASSERT_EQ(set.tensors().size(), 3u);
    for (const SafetensorsSet::Tensor& tensor : set.tensors()) {
      float values[2] = {};
      tensor.file->read(tensor.entry->name, values, sizeof values);
      EXPECT_EQ(values[1], 2.0f);
    }
  }
  EXPECT_EQ(SafetensorsSet(folder_ / "one").tensors().size(), 2u);
}

TEST_F(SafetensorsSetTest, EachLieIsOneSentence) {
  const struct {
    const char* index;
    const char* says;
  } cases[] = {
      {"[]", "the whole is an array, it must be an object"},
      {"{}", "weight_map is missing"},
      {R"({"weight_map": ["one"]})", "weight_map is an array, it must be an object"},
      {R"({"weight_map": {}})", "weight_map is an object, it must name at least one tensor"},
      {R"({"weight_map": {"a": 1}})", "weight_map.a is 1, it must be a text"},
      {R"({"weight_map": {"a": "one", "a": "one"}})", "weight_map.a is given twice"},
      {R"({"weight_map": {"a": "../one"}})", "weight_map.a is \"../one\", it must be the plain name of a file beside"},
      {R"({"weight_map": {"a": "/etc/passwd"}})", "it must be the plain name"},
      {R"({"weight_map": {"a": "x/one"}})", "it must be the plain name"},
      {R"({"weight_map": {"a": "x\\one"}})", "it must be the plain name"},
      {R"({"weight_map": {"a": "one\u0000"}})", "it must be the plain name"},
      {R"({"weight_map": {"a": ".."}})", "it must be the plain name"},
      {R"({"weight_map": {"a": "."}})", "it must be the plain name"},
      {R"({"weight_map": {"a": ""}})", "it must be the plain name"},
      {R"({"weight_map": {"a": "one", "b": "one", "c": "three"}})",
       "lists the shard three, which is not there: the download is incomplete"},
      {R"({"weight_map": {"a": "one", "b": "one", "c": "folder"}})", "is a folder"},
      {R"({"weight_map": {"a": "one", "b": "two", "c": "two"}})",
       "tensor b is in one, the index says that it is in two"},
      {R"({"weight_map": {"a": "one", "c": "two"}})", "one holds the tensor b, which the index does not list"},
      {R"({"weight_map": {"a": "one", "b": "one", "c": "two", "d": "two"}})",
       "tensor d is not in two, where the index says that it is"},
      {R"({"weight_map": {"a": "one", "b": "one", "c": "two"}, "metadata": {"total_size": 23}})",
       "metadata.total_size is 23, it must be 24, the bytes of all tensors of the shards"},
      {R"({"weight_map": {"a": "one", "b": "one", "c": "two"}, "metadata": {"total_size": "24"}})",
       "metadata.total_size is \"24\", it must be a number"},
      {R"({"weight_map": {"a": "one", "b": "one", "c": "two"}, "metadata": 24})",
       "metadata is 24, it must be an object"},
      {R"({"weight_map": {"a": "one", "b": "one", "c": "two"}, "metadata": {"total_size": -1}})", "total_size is -1"},
      {R"({"weight_map": {"a": "model.safetensors.index.json"}})", "at most 100000000 are allowed"},
  };
  std::filesystem::create_directory(folder_ / "folder");
  for (const auto& c : cases) refuse(c.index, c.says);
  shard("two", {"c", "a"});  // the same tensor in two files
  refuse(R"({"weight_map": {"a": "one", "b": "one", "c": "two"}})",
         "tensor a is in two, the index says that it is in one");
}

TEST_F(SafetensorsSetTest, OneFileIsPreferredToAnIndex) {
  EXPECT_EQ(SafetensorsSet::find_in(folder_.path()), std::nullopt);
  write_file_atomically(folder_ / "model.safetensors.index.json", "{}");
  EXPECT_EQ(SafetensorsSet::find_in(folder_.path()), folder_ / "model.safetensors.index.json");
  shard("model.safetensors", {"a"});
  EXPECT_EQ(SafetensorsSet::find_in(folder_.path()), folder_ / "model.safetensors");
}

TEST(Shown, CutsAndCleans) {
  EXPECT_EQ(shown("plain é"), "plain é");
  EXPECT_EQ(shown("a\nb\x1b[31m\x7f"), "a?b?[31m?");
  EXPECT_EQ(shown(std::string(80, 'x')), std::string(80, 'x'));
  EXPECT_EQ(shown(std::string(81, 'x')), std::string(80, 'x') + " ...");
  EXPECT_EQ(shown("aéb", 2), "a ...");
  EXPECT_EQ(shown("aéb", 3), "aé ...");
  EXPECT_EQ(shown(std::string(9, '\x80'), 4), " ...");
}

}  // namespace
}  // namespace sinter
