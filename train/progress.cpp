#include "train/progress.h"

#include <sys/ioctl.h>
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

constexpr int kUsualColumns = 80;
constexpr int kLongestBar = 30, kShortestBar = 5;

}  // namespace

std::string progress_line(const ProgressView& view, int columns) {
  const double share = std::min(1.0, static_cast<double>(view.done) / static_cast<double>(view.total));
  char percent[16], rate[32] = "";
  std::snprintf(percent, sizeof(percent), " %3.0f%%", std::floor(100 * share));
  if (view.rate) std::snprintf(rate, sizeof(rate), "  %.1f steps/s", *view.rate);
  const double left = view.rate ? static_cast<double>(view.total - view.done) / *view.rate : 0;
  const std::string counts = " " + std::to_string(view.done) + "/" + std::to_string(view.total);
  const std::string times = "  " + clock_text(view.elapsed) + (view.rate ? "<" + clock_text(left) : "");
  const auto room = static_cast<std::size_t>(std::max(columns, 0));
  for (const std::string& rest : {counts + times + rate, counts + times, counts}) {
    const std::size_t brackets = std::string_view(" []").size();
    const std::size_t fixed = view.title.size() + std::string_view(percent).size() + brackets + rest.size();
    if (fixed + kShortestBar > room) continue;
    const std::size_t length = std::min<std::size_t>(room - fixed, kLongestBar);
    std::string bar(static_cast<std::size_t>(share * static_cast<double>(length)), '#');
    bar.resize(length, '.');
    return view.title + percent + " [" + bar + "]" + rest;
  }
  return (view.title + percent + counts).substr(0, room);
}

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
    first_ = done;
    start_ = now;
  }
  if (now - last_ < std::chrono::milliseconds(100) && done != total_) return;
  last_ = now;
  draw();
}

void Progress::draw() {
  ProgressView view{.title = title_, .done = done_, .total = total_};
  view.elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  if (done_ > first_ && view.elapsed > 0) view.rate = static_cast<double>(done_ - first_) / view.elapsed;
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  const int columns = known ? size.ws_col : kUsualColumns;
  // The last column stays free: writing into it makes some terminals begin a new line.
  std::fprintf(stderr, "\r\033[K%s", progress_line(view, columns - 1).c_str());
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
    double x = value.as<double>();
    if (std::isnan(x)) x = std::abs(x);   // "nan", whatever its sign
    std::snprintf(number, sizeof(number), (std::abs(x) >= 1e-3 && std::abs(x) < 1e6) || x == 0 ? "%.4f" : "%.3e", x);
    text += (text.size() > 1 ? ", '" : "'") + key + "': " + number;
  }
  return text + "}";
}

}  // namespace sinter::train
