// What a person sees while a run goes on.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "core/io/json.h"

namespace sinter::train {

struct ProgressView {
  std::string title;
  std::int64_t done = 0, total = 1;
  double elapsed = 0;                   ///< seconds
  std::optional<double> rate;           ///< steps a second; not known before the second step
};

/// "train  50% [###...] 5/10  00:02<00:02  2.5 steps/s" in at most `columns` characters: the bar gets shorter first,
/// then rate, times and bar are left out.
std::string progress_line(const ProgressView& view, int columns);

/// A bar on standard error while that is a terminal, and log lines above it on standard output.
class Progress {
 public:
  /// `total` steps; `enabled` false: no bar even on a terminal.
  Progress(std::string title, std::int64_t total, bool enabled);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Draws the bar for `done` steps of `total`, at most ten times a second.
  void update(std::int64_t done);
  /// Prints one line above the bar.
  void line(const std::string& text);
  /// Removes the bar.
  void close();

 private:
  void clear();
  void draw();

  std::string title_;
  std::int64_t total_;
  bool shown_;
  std::int64_t done_ = 0, first_ = -1;
  std::chrono::steady_clock::time_point start_, last_;
};

/// A log entry as one line: {'loss': 0.4213, 'learning_rate': 1.2e-05, 'epoch': 0.5} without step and with 4 digits.
std::string log_line(const Json& entry);

}  // namespace sinter::train
