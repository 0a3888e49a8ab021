#include "train/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace sinter::train {
namespace {

std::string clock_text(double seconds) {
  const auto s = static_cast<std::int64_t>(std::max(0.0, seconds));
  char text[32];
  if (s >= 3600) {
    std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", static_cast<long long>(s / 3600),
                  static_cast<long long>(s / 60 % 60), static_cast<long long>(s % 60));
  } else {
    std::snprintf(text, sizeof(text), "%02lld:%02lld", static_cast<long long>(s / 60), static_cast<long long>(s % 60));
  }
  return text;
}

}  // namespace

Progress::Progress(std::string title, std::int64_t total, bool enabled)
    : title_(std::move(title)),
      total_(std::max<std::int64_t>(total, 1)),
      shown_(enabled && isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() { close(); }

void Progress::update(std::int64_t done) {
  done_ = done;
  if (!shown_) return;
  const auto now = std::chrono::steady_clock::now();
  if (first_ < 0) {  // a resumed run does not start at 0
    first_ = done - 1;
    start_ = now;
  }
  if (now - last_ < std::chrono::milliseconds(100) && done != total_) return;
  last_ = now;
  draw();
}

void Progress::draw() {
  constexpr int kWidth = 30;
  const double share = std::min(1.0, static_cast<double>(done_) / static_cast<double>(total_));
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double rate = elapsed > 0 ? static_cast<double>(done_ - first_) / elapsed : 0;
  std::string bar(static_cast<std::size_t>(share * kWidth), '#');
  bar.resize(kWidth, '.');
  std::fprintf(stderr, "\r\033[K%s %3.0f%% [%s] %lld/%lld  %s<%s  %.1f steps/s", title_.c_str(), 100 * share,
               bar.c_str(), static_cast<long long>(done_), static_cast<long long>(total_), clock_text(elapsed).c_str(),
               clock_text(rate > 0 ? static_cast<double>(total_ - done_) / rate : 0).c_str(), rate);
  std::fflush(stderr);
}

void Progress::clear() {
  if (shown_ && first_ >= 0) std::fputs("\r\033[K", stderr);
}

void Progress::line(const std::string& text) {
  clear();
  std::fflush(stderr);
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
  if (shown_ && first_ >= 0) draw();
}

void Progress::close() {
  clear();
  shown_ = false;
}

std::string log_line(const Json& entry) {
  std::string text = "{";
  for (const auto& [key, value] : entry.items()) {
    if (key == "step") continue;
    char number[40];
    const double x = value.as<double>();
    std::snprintf(number, sizeof(number), (std::abs(x) >= 1e-3 && std::abs(x) < 1e6) || x == 0 ? "%.4f" : "%.3e", x);
    text += (text.size() > 1 ? ", '" : "'") + key + "': " + number;
  }
  return text + "}";
}

}  // namespace sinter::train
