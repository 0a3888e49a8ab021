#include "train/stop_signal.h"

#include <csignal>
#include <mutex>
#include <string_view>
#include <unistd.h>

namespace sinter::train {
namespace {

volatile std::sig_atomic_t g_received = 0;
std::mutex g_lock;
int g_alive = 0;   // StopSignals
struct Handled {
  int signal;
  struct sigaction before = {};
};
Handled g_handled[] = {{SIGINT}, {SIGTERM}, {SIGHUP}, {SIGUSR1}};

/// What a handler may do: write() only. Nobody can be told that it failed.
void say(std::string_view sentence) {
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, sentence.data(), sentence.size());
}

void on_signal(int number) {
  if (g_received != 0) {
    say("\nsinter: ended at once, without a checkpoint\n");
    _exit(128 + number);
  }
  g_received = number;
  say("\nsinter: stopping after this step, with a checkpoint; the same signal again ends the run at once\n");
}

}  // namespace

StopSignal::StopSignal() {
  const std::lock_guard guard(g_lock);
  if (g_alive++ > 0) return;
  g_received = 0;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  for (Handled& handled : g_handled) {
    sigaction(handled.signal, nullptr, &handled.before);
    if (handled.before.sa_handler != SIG_IGN) sigaction(handled.signal, &action, nullptr);   // nohup's stays ignored
  }
}

StopSignal::~StopSignal() {
  const std::lock_guard guard(g_lock);
  if (--g_alive > 0) return;
  for (const Handled& handled : g_handled) sigaction(handled.signal, &handled.before, nullptr);
}

int StopSignal::received() { return g_received; }

}  // namespace sinter::train
