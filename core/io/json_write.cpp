// Writing.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/io/files.h"
#include "core/io/json.h"

namespace sinter {
namespace {

// Bytes of the well-formed UTF-8 sequence at text[at] (RFC 3629: shortest form, no surrogates), or 0.
std::size_t utf8_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) -> unsigned {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const std::size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i)
    if (byte(i) < 0x80 || byte(i) > 0xbf) return 0;
  return length;
}

void write_text(std::string& out, std::string_view text) {
  out += '"';
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text, at);
    if (length == 0)
      fail(ErrorCode::usage, "a text for JSON is not valid UTF-8 at byte ", at, " of ", text.size(),
           ", clean it before it is stored");
    const char c = text[at];
    constexpr std::string_view special = "\"\\\b\f\n\r\t";
    if (const std::size_t which = special.find(c); which != std::string_view::npos) {
      out += '\\';
      out += "\"\\bfnrt"[which];
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += "\\u00";
      out += "01"[c >> 4];
      out += "0123456789abcdef"[c & 15];
    } else {
      out += text.substr(at, length);
    }
    at += length;
  }
  out += '"';
}

// Python's repr: positional from 1e-4 up to below 1e16, else with an exponent.
void write_real(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char text[32];
  const double magnitude = std::fabs(value);
  const bool positional = value == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  const auto format = positional ? std::chars_format::fixed : std::chars_format::scientific;
  const char* end = std::to_chars(text, text + sizeof text, value, format).ptr;
  const std::string_view written(text, static_cast<std::size_t>(end - text));
  out += written;
  if (positional && written.find('.') == std::string_view::npos) out += ".0";
}

class Writer {
 public:
  explicit Writer(const JsonStyle& style) : style_(style) {}

  void write(const Json& json) {
    switch (json.kind()) {
      case Json::Kind::null: out_ += "null"; break;
      case Json::Kind::boolean: out_ += json.as<bool>() ? "true" : "false"; break;
      case Json::Kind::integer: out_ += std::to_string(json.as<std::int64_t>()); break;
      case Json::Kind::real: write_real(out_, json.as<double>()); break;
      case Json::Kind::string: write_text(out_, json.as<std::string>()); break;
      case Json::Kind::array: write_array(json.elements()); break;
      case Json::Kind::object: write_object(json.items()); break;
    }
  }

  std::string take() { return std::move(out_); }

 private:
  void write_array(const Json::Array& elements) {
    out_ += '[';
    ++depth_;
    for (std::size_t i = 0; i < elements.size(); ++i) {
      separate(i == 0);
      write(elements[i]);
    }
    close(']', elements.empty());
  }

  void write_object(const Json::Members& members) {
    std::vector<const std::pair<std::string, Json>*> ordered;
    for (const auto& member : members) ordered.push_back(&member);
    if (style_.sort_keys)
      std::ranges::sort(ordered, [](const auto* a, const auto* b) { return a->first < b->first; });
    out_ += '{';
    ++depth_;
    for (std::size_t i = 0; i < ordered.size(); ++i) {
      separate(i == 0);
      write_text(out_, ordered[i]->first);
      out_ += style_.indent < 0 ? ":" : ": ";
      write(ordered[i]->second);
    }
    close('}', members.empty());
  }

  void separate(bool first) {
    if (!first) out_ += ',';
    new_line();
  }

  void close(char bracket, bool empty) {
    --depth_;
    if (!empty) new_line();
    out_ += bracket;
  }

  void new_line() {
    if (style_.indent < 0) return;
    out_ += '\n';
    out_.append(static_cast<std::size_t>(depth_) * static_cast<std::size_t>(style_.indent), ' ');
  }

  const JsonStyle& style_;
  std::string out_;
  int depth_ = 0;
};

}  // namespace

std::string Json::dump(const JsonStyle& style) const {
  Writer writer(style);
  writer.write(*this);
  return writer.take();
}

void Json::save(const std::filesystem::path& path, const JsonStyle& style) const {
  write_file_atomically(path, dump(style) + "\n");
}

}  // namespace sinter
