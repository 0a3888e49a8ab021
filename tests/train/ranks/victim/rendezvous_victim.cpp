// One rank of three as a process of its own, for tests/train/ranks/rendezvous_faults_test.cpp to kill or stop:
//
//   rendezvous_victim waits|fails <rank> <port> <lost_timeout in ms>
//
// It reports step 3 and takes part in one exchange of flags. Then "waits" waits for a failure of the group, prints its
// sentence and exits with 17; "fails" waits for a line on standard input, reports step 4 and a failure of its own, and
// exits with 17 when that is known.
#include <chrono>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>

#include "core/error.h"
#include "train/ranks/rendezvous.h"

namespace {

int run(std::string_view what, int rank, int port, std::chrono::milliseconds lost_timeout) {
  sinter::train::Rendezvous rendezvous(
      {.rank = rank, .world_size = 3, .port = port, .job_id = "test", .lost_timeout = lost_timeout});
  rendezvous.report(3);
  try {
    rendezvous.exchange_flag(0);
  } catch (const sinter::Error&) {   // it was stopped before it had the answer
  }
  if (what == "fails") {
    if (std::getchar() == EOF) return 1;
    rendezvous.report(4);
    rendezvous.fail("the device has no memory left");
  }
  while (!rendezvous.failure()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::puts(rendezvous.failure()->sentence().c_str());
  return 17;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 5) throw std::invalid_argument("rendezvous_victim waits|fails <rank> <port> <lost_timeout in ms>");
    return run(argv[1], std::stoi(argv[2]), std::stoi(argv[3]), std::chrono::milliseconds(std::stoi(argv[4])));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "rendezvous_victim: %s\n", error.what());
    return 1;
  }
}
