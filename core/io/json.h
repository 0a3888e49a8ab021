// JSON: a checked reader for files that nobody vouches for, typed access with errors that name the field, and a
// writer.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace sinter {

/// Bounds of the reader, so that no file can exhaust the stack or the memory.
struct JsonLimits {
  std::size_t max_bytes = std::size_t{16} << 20;   ///< of the text
  std::size_t max_values = std::size_t{2} << 20;   ///< of scalars, arrays and objects together
  int max_depth = 64;                              ///< of nested arrays and objects
};

/// How `dump` writes. HF's files have 2 spaces; config.json is sorted, trainer_state.json is in insertion order.
struct JsonStyle {
  int indent = 2;          ///< spaces a level; -1 writes one line without any space
  bool sort_keys = false;  ///< by bytes; else the order in which they were set or read
};

/// One JSON value, copied by value. Objects keep the order of their members.
///
/// Reading refuses (Error bad_input that names the file, the line or the field, and the rule): text that is not JSON,
/// invalid UTF-8, a key given twice in one object, and what exceeds JsonLimits. NaN and Infinity, which Python
/// writes, are not JSON. Numbers without fraction and exponent that fit 64 signed bits are integers; all others are
/// doubles, so a tokenizer's `model_max_length` of 10^30 is read, and refused only by who asks for an integer.
class Json {
 public:
  enum class Kind { null, boolean, integer, real, string, array, object };
  using Array = std::vector<Json>;
  using Members = std::vector<std::pair<std::string, Json>>;

  Json() = default;  ///< null
  Json(std::nullptr_t) {}
  Json(std::same_as<bool> auto value) : value_(value) {}
  Json(double value) : value_(value) {}
  Json(const char* value) : value_(std::string(value)) {}
  Json(std::string_view value) : value_(std::string(value)) {}
  Json(std::string value) : value_(std::move(value)) {}
  template <std::integral T>
    requires(!std::same_as<T, bool> && (sizeof(T) < 8 || std::signed_integral<T>))
  Json(T value) : value_(static_cast<std::int64_t>(value)) {}
  Json(std::size_t value);  ///< at most 2^63 - 1, else Error usage

  static Json array(Array elements = {});
  static Json object(std::initializer_list<std::pair<std::string, Json>> members = {});

  /// Reads `text`; `source` stands for the file in messages.
  static Json parse(std::string_view text, const std::string& source, const JsonLimits& limits = {});
  /// Reads a file; the messages begin with its whole path.
  static Json load(const std::filesystem::path& path, const JsonLimits& limits = {});

  Kind kind() const;
  bool is_null() const { return kind() == Kind::null; }
  bool is_string() const { return kind() == Kind::string; }
  bool is_array() const { return kind() == Kind::array; }
  bool is_object() const { return kind() == Kind::object; }

  // --- objects; on any other kind, Error bad_input ---

  bool contains(std::string_view key) const { return find(key) != nullptr; }
  const Json* find(std::string_view key) const;  ///< nullptr when absent
  const Json& at(std::string_view key) const;    ///< Error bad_input "config.json: hidden_size is missing"

  /// The member as T: bool, int64_t, double (an integer is accepted) or std::string. Error bad_input when it is
  /// absent or of another kind: config.json: hidden_size is "12", it must be an integer.
  template <class T>
  T get(std::string_view key) const;
  /// The same for int64_t and double in low..high, both included: "... it must be an integer of at least 1".
  template <class T>
  T get(std::string_view key, T low, T high = std::numeric_limits<T>::max()) const;
  /// `fallback` when the member is absent or null, which HF's files use alike.
  template <class T>
  T get_or(std::string_view key, const T& fallback) const {
    return has_value(key) ? get<T>(key) : fallback;
  }
  template <class T>
  T get_or(std::string_view key, const T& fallback, T low, T high = std::numeric_limits<T>::max()) const {
    return has_value(key) ? get<T>(key, low, high) : fallback;
  }

  /// Throws the Error bad_input of a rule that only the caller knows: refuse("num_attention_heads", "divide 768")
  /// gives "config.json: num_attention_heads is 5, it must divide 768".
  [[noreturn]] void refuse(std::string_view key, std::string_view must) const;
  /// The file that this value was read from, as parse was told; empty for a value made in a program.
  std::string source() const;

  /// Adds a member, or replaces its value in place. Null becomes an object.
  Json& set(std::string_view key, Json value);
  const Members& items() const;
  const Members& items(std::string_view key) const;  ///< of the object under `key`; errors name it

  // --- arrays and scalars; on any other kind, Error bad_input ---

  const Array& elements() const;
  const Array& elements(std::string_view key) const;  ///< of the array under `key`; errors name it
  Json& push_back(Json value);  ///< null becomes an array
  std::size_t size() const;     ///< of an array or an object
  /// This value as T, as in get<T>.
  template <class T>
  T as() const;

  // --- writing ---

  /// Doubles are the shortest text that reads back to the same bits, as Python prints them (1e-12, 0.1, 2.0). NaN and
  /// the infinities become null. Text stays UTF-8; Error usage where it is not valid UTF-8. No newline at the end.
  std::string dump(const JsonStyle& style = {}) const;
  /// dump() and a newline, written atomically.
  void save(const std::filesystem::path& path, const JsonStyle& style = {}) const;

  /// Equal kinds and values; the order of members does not count.
  bool operator==(const Json& other) const;

 private:
  friend class JsonBuilder;  // fills values while parsing

  struct Object {
    Members members;
    std::map<std::string, std::size_t, std::less<>> places;  // key -> index in members
  };
  // Where a value was read: the array or object that it is, or that holds it. Paths are linked and not spelled out,
  // else a file with one long key above many arrays would cost the square of its size.
  struct Origin {
    std::shared_ptr<const Origin> parent;  // null for the outermost value
    std::string step;                      // from the parent: a key or "[3]"; of the outermost value, the file
  };

  const Object& as_object() const;
  bool has_value(std::string_view key) const;
  std::string field(std::string_view key) const;  // "config.json: task.name" as messages begin
  std::string here() const;
  std::string path() const;  // "task.names[3]", empty for the outermost value; of a long one the last 200 bytes or so

  std::variant<std::nullptr_t, bool, std::int64_t, double, std::string, Array, Object> value_ = nullptr;
  std::shared_ptr<const Origin> origin_;
};

}  // namespace sinter
