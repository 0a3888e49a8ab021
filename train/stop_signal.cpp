#include "train/stop_signal.h"

#include <csignal>
#include <unistd.h>

namespace sinter::train {
namespace {

volatile std::sig_atomic_t g_received = 0;
struct sigaction g_before_int, g_before_term;

void on_signal(int number) {
  if (g_received != 0) _exit(128 + number);
  g_received = number;
}

}  // namespace

StopSignal::StopSignal() {
  g_received = 0;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &g_before_int);
  sigaction(SIGTERM, &action, &g_before_term);
}

StopSignal::~StopSignal() {
  sigaction(SIGINT, &g_before_int, nullptr);
  sigaction(SIGTERM, &g_before_term, nullptr);
}

int StopSignal::received() { return g_received; }

}  // namespace sinter::train
