// What a kernel answers instead of throwing, and what it says about its own cost.
#pragma once

#include <cstdint>

namespace sinter::kernels {

enum class StatusCode : std::uint8_t { ok, invalid_argument, unsupported, out_of_memory, device_error };

/// Outcome of a kernel call. `what` names the rule which was broken ("" when ok): a string literal, as the kernel layer
/// allocates nothing, or the emulated device's report, which stands until its next one. Core adds the op, the shapes
/// and the values.
struct [[nodiscard]] Status {
  StatusCode code = StatusCode::ok;
  const char* what = "";

  constexpr bool ok() const { return code == StatusCode::ok; }
};

constexpr Status invalid(const char* what) { return {StatusCode::invalid_argument, what}; }
constexpr Status unsupported(const char* what) { return {StatusCode::unsupported, what}; }

/// Data that a kernel must move at least once, and its arithmetic. Elements that stay in cache count once.
struct Cost {
  double bytes_read = 0;
  double bytes_written = 0;
  double flops = 0;

  constexpr double bytes() const { return bytes_read + bytes_written; }
};

}  // namespace sinter::kernels
