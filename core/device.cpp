#include "core/device.h"

#include <charconv>

#include "core/error.h"

namespace sinter {

Device Device::parse(const std::string& text) {
  const std::size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  int index = 0;
  bool valid = kind == "cpu" || kind == "cuda" || kind == "simt";
  if (colon != std::string::npos) {
    const char* begin = text.data() + colon + 1;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, index);
    valid = valid && error == std::errc{} && stop == end && index >= 0 && begin != end;
  }
  if (!valid || (kind == "cpu" && index != 0))
    fail(ErrorCode::usage, "device \"", text, "\" is not known; use cpu, cuda, cuda:N or simt");
  if (kind == "cpu") return cpu();
  return kind == "cuda" ? cuda(index) : simt(index);
}

std::string Device::str() const {
  if (type_ == DeviceType::cpu) return "cpu";
  return std::string(type_ == DeviceType::cuda ? "cuda:" : "simt:") + std::to_string(index_);
}

}  // namespace sinter
