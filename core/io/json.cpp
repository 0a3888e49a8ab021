#include "core/io/json.h"

#include <algorithm>

#include "core/error.h"
#include "core/io/shown.h"

namespace sinter {
namespace {

const char* kind_name(Json::Kind kind) {
  constexpr const char* names[] = {"null", "a boolean", "an integer", "a number", "a text", "an array", "an object"};
  return names[static_cast<int>(kind)];
}

// A value as it stands in a message.
std::string shown_value(const Json& value) {
  return value.is_object() || value.is_array() ? kind_name(value.kind()) : shown(value.dump());
}

template <class T>
constexpr const char* wanted = "";
template <>
constexpr const char* wanted<bool> = "true or false";
template <>
constexpr const char* wanted<std::int64_t> = "an integer";
template <>
constexpr const char* wanted<double> = "a number";
template <>
constexpr const char* wanted<std::string> = "a text";

}  // namespace

Json::Json(std::size_t value) {
  if (value > static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max()))
    fail(ErrorCode::usage, "the integer ", value, " exceeds 2^63 - 1, the largest that sinter writes to JSON");
  value_ = static_cast<std::int64_t>(value);
}

Json Json::array(Array elements) {
  Json json;
  json.value_ = std::move(elements);
  return json;
}

Json Json::object(std::initializer_list<std::pair<std::string, Json>> members) {
  Json json;
  json.value_ = Object{};
  for (const auto& [key, value] : members) json.set(key, value);
  return json;
}

Json::Kind Json::kind() const { return static_cast<Kind>(value_.index()); }

std::string Json::source() const {
  if (!origin_) return "";
  const Origin* origin = origin_.get();
  while (origin->parent) origin = origin->parent.get();
  return origin->step;
}

std::string Json::path() const {
  constexpr std::size_t kEnough = 200;   // bytes that a sentence has room for
  std::string path;
  for (const Origin* at = origin_.get(); at != nullptr && at->parent; at = at->parent.get()) {
    if (path.size() > kEnough) return "... " + path;
    const bool continues = path.empty() || path.front() == '[';
    path = shown(at->step) + (continues ? "" : ".") + path;
  }
  return path;
}

std::string Json::here() const {
  if (!origin_) return "JSON value";
  const bool container = is_array() || is_object();
  if (!origin_->parent) return source() + (container ? ": the whole" : ": a value of it");
  return source() + (container ? ": " : ": a value in ") + path();
}

std::string Json::field(std::string_view key) const {
  std::string text = origin_ ? source() + ": " : "";
  if (origin_ && origin_->parent) text += path() + ".";
  return text.append(shown(key));
}

const Json::Object& Json::as_object() const {
  if (const auto* object = std::get_if<Object>(&value_)) return *object;
  fail(ErrorCode::bad_input, here(), " is ", shown_value(*this), ", it must be an object");
}

const Json* Json::find(std::string_view key) const {
  const Object& object = as_object();
  const auto place = object.places.find(key);
  return place == object.places.end() ? nullptr : &object.members[place->second].second;
}

bool Json::has_value(std::string_view key) const {
  const Json* value = find(key);
  return value != nullptr && !value->is_null();
}

const Json& Json::at(std::string_view key) const {
  if (const Json* value = find(key)) return *value;
  fail(ErrorCode::bad_input, field(key), " is missing");
}

void Json::refuse(std::string_view key, std::string_view must) const {
  fail(ErrorCode::bad_input, field(key), " is ", shown_value(at(key)), ", it must ", must);
}

template <class T>
T Json::get(std::string_view key) const {
  const Json& value = at(key);
  if (const T* held = std::get_if<T>(&value.value_)) return *held;
  if constexpr (std::same_as<T, double>)
    if (const auto* held = std::get_if<std::int64_t>(&value.value_)) return static_cast<double>(*held);
  refuse(key, std::string("be ") + wanted<T>);
}

template <class T>
T Json::get(std::string_view key, T low, T high) const {
  const T value = get<T>(key);
  if (value >= low && value <= high) return value;
  std::string rule = std::string("be ") + wanted<T>;
  const bool bounded = high != std::numeric_limits<T>::max();
  rule += bounded ? " from " + Json(low).dump() + " to " + Json(high).dump() : " of at least " + Json(low).dump();
  refuse(key, rule);
}

template <class T>
T Json::as() const {
  if (const T* held = std::get_if<T>(&value_)) return *held;
  if constexpr (std::same_as<T, double>)
    if (const auto* held = std::get_if<std::int64_t>(&value_)) return static_cast<double>(*held);
  fail(ErrorCode::bad_input, here(), " is ", shown_value(*this), ", it must be ", wanted<T>);
}

template bool Json::get(std::string_view) const;
template std::int64_t Json::get(std::string_view) const;
template double Json::get(std::string_view) const;
template std::string Json::get(std::string_view) const;
template std::int64_t Json::get(std::string_view, std::int64_t, std::int64_t) const;
template double Json::get(std::string_view, double, double) const;
template bool Json::as() const;
template std::int64_t Json::as() const;
template double Json::as() const;
template std::string Json::as() const;

Json& Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = Object{};
  as_object();
  Object& object = std::get<Object>(value_);
  const auto [place, added] = object.places.try_emplace(std::string(key), object.members.size());
  if (added)
    object.members.emplace_back(std::string(key), std::move(value));
  else
    object.members[place->second].second = std::move(value);
  return *this;
}

const Json::Members& Json::items() const { return as_object().members; }

const Json::Members& Json::items(std::string_view key) const {
  if (const auto* object = std::get_if<Object>(&at(key).value_)) return object->members;
  refuse(key, "be an object");
}

const Json::Array& Json::elements(std::string_view key) const {
  if (const auto* array = std::get_if<Array>(&at(key).value_)) return *array;
  refuse(key, "be an array");
}

const Json::Array& Json::elements() const {
  if (const auto* array = std::get_if<Array>(&value_)) return *array;
  fail(ErrorCode::bad_input, here(), " is ", shown_value(*this), ", it must be an array");
}

Json& Json::push_back(Json value) {
  if (is_null()) value_ = Array{};
  elements();
  std::get<Array>(value_).push_back(std::move(value));
  return *this;
}

std::size_t Json::size() const { return is_object() ? items().size() : elements().size(); }

bool Json::operator==(const Json& other) const {
  if (kind() != other.kind()) return false;
  if (!is_object()) {
    return std::visit(
        [&other](const auto& mine) {
          using T = std::decay_t<decltype(mine)>;
          if constexpr (std::same_as<T, Object>)
            return false;
          else
            return mine == std::get<T>(other.value_);
        },
        value_);
  }
  return size() == other.size() && std::ranges::all_of(items(), [&other](const auto& member) {
           const Json* theirs = other.find(member.first);
           return theirs != nullptr && member.second == *theirs;
         });
}

}  // namespace sinter
