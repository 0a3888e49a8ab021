#include "train/ranks/rendezvous_clock.h"

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <utility>

namespace sinter::train {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

RendezvousClock::RendezvousClock(milliseconds lost_timeout)
    : period_(std::clamp<nanoseconds>(lost_timeout / 5, milliseconds(1), milliseconds(1000))) {}

nanoseconds RendezvousClock::tick() {
  const Time before = std::exchange(now_, std::chrono::steady_clock::now());
  return std::min<nanoseconds>(now_ - before, 2 * period_);
}

bool RendezvousClock::beats() {
  if (now_ < next_beat_) return false;
  next_beat_ = now_ + period_;
  return true;
}

int RendezvousClock::wait(Time deadline) const {
  const Time next = std::min(next_beat_, deadline);
  const auto left = std::chrono::ceil<milliseconds>(next - std::chrono::steady_clock::now());
  return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
}

std::string in_seconds(milliseconds time) {
  std::ostringstream text;
  text << static_cast<double>(time.count()) / 1000 << " s";
  return text.str();
}

}  // namespace sinter::train
