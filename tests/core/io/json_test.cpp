#include "core/io/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/io/files.h"
#include "tests/core/io/allocation_watch.h"
#include "tests/core/expect_error.h"
#include "tests/core/io/scratch_folder.h"

namespace sinter {
namespace {

using testing::expect_error;

Json parse(std::string_view text) { return Json::parse(text, "config.json"); }

TEST(Json, ReadsEveryKindInOrder) {
  const Json json = parse(R"( {"b": true, "a": [1, -2, 0.5, null], "text": "é\u00e9\n", "nested": {"x": 1}} )");
  EXPECT_TRUE(json.get<bool>("b"));
  EXPECT_EQ(json.items()[1].first, "a");
  EXPECT_EQ(json.at("a").size(), 4u);
  EXPECT_EQ(json.at("a").elements()[1].as<std::int64_t>(), -2);
  EXPECT_EQ(json.at("a").elements()[2].as<double>(), 0.5);
  EXPECT_TRUE(json.at("a").elements()[3].is_null());
  EXPECT_EQ(json.get<std::string>("text"), "éé\n");
  EXPECT_EQ(json.at("nested").get<double>("x"), 1.0);
  EXPECT_EQ(json.get_or<std::int64_t>("absent", 7), 7);
  EXPECT_FALSE(json.contains("absent"));
}

TEST(Json, ErrorsNameFileFieldValueAndRule) {
  const Json json = parse(R"({"hidden_size": "12", "heads": 0, "eps": null, "p": 1.5, "task": {"name": 3},
                              "ids": ["x"],
                              "model_max_length": 1000000000000000019884624838656})");
  const auto bad = [](std::string_view part, const std::function<void()>& act) {
    expect_error(act, ErrorCode::bad_input, part);
  };
  bad("config.json: hidden_size is \"12\", it must be an integer", [&] { json.get<std::int64_t>("hidden_size", 1); });
  bad("config.json: heads is 0, it must be an integer of at least 1", [&] { json.get<std::int64_t>("heads", 1); });
  bad("config.json: p is 1.5, it must be a number from 0.0 to 1.0", [&] { json.get<double>("p", 0.0, 1.0); });
  bad("config.json: p is 1.5, it must be an integer", [&] { json.get<std::int64_t>("p"); });
  bad("config.json: eps is null, it must be a number", [&] { json.get<double>("eps"); });
  bad("config.json: vocab_size is missing", [&] { json.get<std::int64_t>("vocab_size"); });
  bad("config.json: task.name is 3, it must be a text", [&] { json.at("task").get<std::string>("name"); });
  bad("config.json: a value in ids is \"x\", it must be an integer",
      [&] { json.at("ids").elements()[0].as<std::int64_t>(); });
  bad("config.json: task is an object, it must be an array", [&] { json.at("task").elements(); });
  bad("it must be an integer", [&] { json.get<std::int64_t>("model_max_length"); });
  bad("config.json: heads is 0, it must divide 12", [&] { json.refuse("heads", "divide 12"); });
  bad("config.json: the whole is an array, it must be an object", [&] { parse("[]").get<bool>("x"); });
  EXPECT_EQ(json.get_or<double>("eps", 1e-12), 1e-12);
  EXPECT_EQ(json.get<double>("model_max_length"), 1e30);
}

TEST(Json, RangesOfIntegers) {
  EXPECT_EQ(parse("[9223372036854775807]").elements()[0].as<std::int64_t>(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(parse("[-9223372036854775808]").elements()[0].as<std::int64_t>(), std::numeric_limits<std::int64_t>::min());
  for (const char* text : {"[9223372036854775808]", "[18446744073709551615]", "[-9223372036854775809]", "[1e3]",
                           "[-0.0]"})
    expect_error([&] { parse(text).elements()[0].as<std::int64_t>(); }, ErrorCode::bad_input, "it must be an integer");
}

TEST(Json, RefusesWhatIsNotJson) {
  const char* texts[] = {"", " ", "{", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "[1 2]", "[01]", "[1.]",
                         "[.5]", "[+1]", "[NaN]", "[Infinity]", "{'a':1}", "[\"\x01\"]", "[\"\\x\"]", "[\"\\ud800\"]",
                         "[\"\xff\"]", "[\"\xc0\x80\"]", "[\"\xed\xa0\x80\"]", "[\"\xf5\x80\x80\x80\"]", "nul",
                         "{} x", "[1e400]", "/**/1", "\xff{}"};
  for (const char* text : texts) {
    SCOPED_TRACE(text);
    expect_error([&] { parse(text); }, ErrorCode::bad_input, "config.json");
  }
}

TEST(Json, RefusesDuplicateKeysAtAnyDepth) {
  expect_error([] { parse(R"({"a":1,"b":2,"a":1})"); }, ErrorCode::bad_input, "config.json: a is given twice");
  expect_error([] { parse(R"({"x":[0,{"a":1,"\u0061":2}]})"); }, ErrorCode::bad_input,
               "config.json: x[1].a is given twice");
}

TEST(Json, LimitsOfDepthSizeAndCount) {
  const auto nested = [](int depth) { return std::string(static_cast<std::size_t>(depth), '['); };
  EXPECT_NO_THROW(parse(nested(64) + std::string(64, ']')));
  expect_error([&] { parse(nested(65) + std::string(65, ']')); }, ErrorCode::bad_input, "deeper than 64 levels");
  expect_error([&] { parse(nested(1'000'000)); }, ErrorCode::bad_input, "deeper than 64 levels");
  expect_error([] { Json::parse("[1,2]", "x", {.max_bytes = 4}); }, ErrorCode::bad_input, "at most 4 are read");
  expect_error([] { Json::parse("[1,2,3]", "x", {.max_values = 3}); }, ErrorCode::bad_input, "more than 3 values");
  EXPECT_NO_THROW(Json::parse("[1,2]", "x", {.max_values = 3}));
}

// Texts made to exhaust a reader: each is refused, or costs memory in proportion to its size.
TEST(Json, BombsAreRefusedOrCostTheirSize) {
  const auto repeated = [](std::string_view piece, int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += piece;
    return text;
  };
  const std::string key(100'000, 'k');
  const std::string many_arrays = "[[]" + repeated(",[]", 2000) + "]";
  // The first two hold many paths that begin with a long key.
  const std::string cheap[] = {
      "{\"" + key + "\":" + many_arrays + "}", "{\"" + key + "\":{\"" + key + "\":" + many_arrays + "}}",
      "{\"x\":0." + std::string(100'000, '0') + "1}", "\"" + repeated("\\u0041", 20'000) + "\""};
  for (const std::string& text : cheap) {
    const testing::AllocationWatch watch;
    parse(text);
    EXPECT_LE(watch.total(), 64 * text.size()) << text.substr(100'000, 20);
  }
  const struct {
    std::string text;
    const char* says;
  } refused[] = {
      {repeated("{\"key\":", 100'000), "config.json: ... key.key.key.key.key"},
      {repeated("{\"key\":", 100'000), "key.key is nested deeper than 64 levels"},
      {repeated("[{\"a\":", 100'000), "[0].a[0].a[0].a"},
      {"{\"" + key + "\":1,\"" + key + "\":2}", "kkk ... is given twice"},
      {repeated("{\"" + key + "\":", 40) + "{\"a\":1,\"a\":2}", "kkk ....a is given twice"},
      {"[" + std::string(100'000, '9') + "]", "number overflow parsing"},
      {"[" + repeated("0,", 2'100'000) + "0]", "has more than 2097152 values, the most that are read"},
      {std::string((16 << 20) + 1, ' '), "has 16777217 bytes of JSON, at most 16777216 are read"},
      {"\"" + std::string(1'000'000, 'x'), "is not valid JSON"},
  };
  for (const auto& bomb : refused) {
    try {
      parse(bomb.text);
      ADD_FAILURE() << "accepted: " << bomb.says;
    } catch (const Error& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find(bomb.says), std::string::npos) << text;
      EXPECT_LE(text.size(), 500u) << bomb.says;
    }
  }
  std::string keys = "{";
  for (int i = 0; i < 1'000'000; ++i) keys.append("\"").append(std::to_string(i)).append("\":0,");
  keys.back() = '}';
  EXPECT_EQ(parse(keys).size(), 1'000'000u);
}

TEST(Json, WritesAsPythonDoes) {
  Json json = Json::object({{"lr", 2e-5}, {"eps", 1e-12}, {"one", 1.0}, {"empty", Json::object()}});
  json.set("none", Json::array());
  json.set("big", 1e16).set("below", 123456789012345.0).set("small", 0.0001).set("nan", NAN).set("n", std::size_t{5});
  json.set("list", Json::array({1, true, "a\"\\\n\x01é"}));
  EXPECT_EQ(json.dump(), R"({
  "lr": 2e-05,
  "eps": 1e-12,
  "one": 1.0,
  "empty": {},
  "none": [],
  "big": 1e+16,
  "below": 123456789012345.0,
  "small": 0.0001,
  "nan": null,
  "n": 5,
  "list": [
    1,
    true,
    "a\"\\\n\u0001é"
  ]
})");
  EXPECT_EQ(Json::object({{"b", 1}, {"a", Json::array({1, 2})}}).dump({.indent = -1, .sort_keys = true}),
            R"({"a":[1,2],"b":1})");
  EXPECT_EQ(Json(-0.0).dump(), "-0.0");
  EXPECT_EQ(Json().dump(), "null");
  expect_error([] { Json("a\xff").dump(); }, ErrorCode::usage, "not valid UTF-8 at byte 1");
}

TEST(Json, DoublesSurviveTheRoundTrip) {
  std::uint64_t bits = 1;
  for (int i = 0; i < 20'000; ++i) {
    bits = bits * 6364136223846793005u + 1442695040888963407u;
    const auto value = std::bit_cast<double>(bits);
    if (!std::isfinite(value)) continue;
    const double back = parse("[" + Json(value).dump() + "]").elements()[0].as<double>();
    ASSERT_EQ(std::bit_cast<std::uint64_t>(back), bits);
  }
}

TEST(Json, SetReplacesInPlaceAndEqualityIgnoresOrder) {
  Json json = Json::object({{"a", 1}, {"b", 2}});
  json.set("a", "new");
  EXPECT_EQ(json.items()[0].second.as<std::string>(), "new");
  EXPECT_EQ(json, parse(R"({"b":2,"a":"new"})"));
  EXPECT_FALSE(json == parse(R"({"b":2,"a":"old"})"));
  EXPECT_FALSE(Json(1) == Json(1.0));
}

TEST(Json, SavesAndLoadsFiles) {
  const testing::ScratchFolder folder;
  const Json json = Json::object({{"hidden_size", 12}});
  json.save(folder / "config.json");
  EXPECT_EQ(read_file(folder / "config.json", 100), "{\n  \"hidden_size\": 12\n}\n");
  EXPECT_EQ(Json::load(folder / "config.json"), json);
  expect_error([&] { Json::load(folder / "absent.json"); }, ErrorCode::not_found, "absent.json");
}

}  // namespace
}  // namespace sinter
