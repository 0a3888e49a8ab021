// Reading: nlohmann's SAX parser, which is iterative and checks UTF-8, drives a builder that applies our own limits.
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/json.h"

namespace sinter {

class JsonBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  JsonBuilder(const std::string& source, const JsonLimits& limits) : source_(source), limits_(limits) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(Json()); }
  bool boolean(bool value) override { return add(Json(value)); }
  bool number_integer(std::int64_t value) override { return add(Json(value)); }
  bool number_unsigned(std::uint64_t value) override {
    constexpr auto largest = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    return value <= largest ? add(Json(static_cast<std::int64_t>(value))) : add(Json(static_cast<double>(value)));
  }
  bool number_float(double value, const std::string&) override { return add(Json(value)); }
  bool string(std::string& value) override { return add(Json(std::move(value))); }
  bool binary(nlohmann::json::binary_t&) override { return false; }

  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool key(std::string& name) override {
    Level& level = open_.back();
    if (level.value.contains(name))
      fail(ErrorCode::bad_input, level.value.field(name), " is given twice, a key may stand once in an object");
    level.key = std::move(name);
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string what = error.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: ..."
    if (const std::size_t bracket = what.find("] "); bracket != std::string::npos) what.erase(0, bracket + 2);
    if (what.size() > 300) what = what.substr(0, 100) + " ... " + what.substr(what.size() - 150);
    fail(ErrorCode::bad_input, source_, " is not valid JSON: ", what);
  }

 private:
  // A container that is still being read.
  struct Level {
    Json value;
    std::string key;  // of the member that comes next, in an object
  };

  bool add(Json value) {
    if (++values_ > limits_.max_values)
      fail(ErrorCode::bad_input, source_, " has more than ", limits_.max_values, " values, the most that are read");
    if (!value.origin_ && !open_.empty()) value.origin_ = open_.back().value.origin_;
    if (open_.empty()) {
      if (!value.origin_) value.origin_ = std::make_shared<Json::Origin>(Json::Origin{nullptr, source_});
      root_ = std::move(value);
    } else if (Level& level = open_.back(); level.value.is_object()) {
      level.value.set(level.key, std::move(value));
    } else {
      level.value.push_back(std::move(value));
    }
    return true;
  }

  bool open(Json container) {
    container.origin_ = std::make_shared<Json::Origin>(
        open_.empty() ? Json::Origin{nullptr, source_} : Json::Origin{open_.back().value.origin_, next_step()});
    if (open_.size() == static_cast<std::size_t>(limits_.max_depth))
      fail(ErrorCode::bad_input, source_, ": ", container.path(), " is nested deeper than ",
           limits_.max_depth, " levels");
    open_.push_back({std::move(container), ""});
    return true;
  }

  bool close() {
    Json done = std::move(open_.back().value);
    open_.pop_back();
    return add(std::move(done));
  }

  std::string next_step() const {
    const Level& level = open_.back();
    return level.value.is_array() ? "[" + std::to_string(level.value.size()) + "]" : level.key;
  }

  const std::string& source_;
  const JsonLimits& limits_;
  std::vector<Level> open_;
  std::size_t values_ = 0;
  Json root_;
};

Json Json::parse(std::string_view text, const std::string& source, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes)
    fail(ErrorCode::bad_input, source, " has ", text.size(), " bytes of JSON, at most ", limits.max_bytes,
         " are read");
  JsonBuilder builder(source, limits);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json Json::load(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse(read_file(path, limits.max_bytes), path.string(), limits);
}

}  // namespace sinter
