#include "core/log.h"

#include <cstdio>
#include <mutex>
#include <set>

namespace sinter {
namespace {

struct Log {
  std::mutex lock;
  std::function<void(const std::string&)> sink;
  std::set<std::string> seen;
};

Log& log() {
  static Log instance;
  return instance;
}

}  // namespace

void log_info(const std::string& sentence) {
  const std::lock_guard guard(log().lock);
  if (log().sink) return log().sink(sentence);
  std::fprintf(stderr, "sinter: %s\n", sentence.c_str());
}

void log_once(const std::string& key, const std::string& sentence) {
  {
    const std::lock_guard guard(log().lock);
    if (!log().seen.insert(key).second) return;
  }
  log_info(sentence);
}

void set_log_sink(std::function<void(const std::string&)> sink) {
  const std::lock_guard guard(log().lock);
  log().sink = std::move(sink);
}

}  // namespace sinter
