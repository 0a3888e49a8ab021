// Ranks of a rendezvous as threads, and a process that can be killed.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "train/ranks/rendezvous.h"
#include "train/ranks/rendezvous_socket.h"

namespace sinter::train::testing {

/// A port of 127.0.0.1 that nobody listens at now.
int free_port();

/// With timeouts that a busy machine does not reach.
RendezvousOptions options(int rank, int world_size, int port);

/// What a rank does, and what it threw: "" where nothing.
using RankFunction = std::function<void(Rendezvous&, int rank)>;
std::vector<std::string> run_ranks(const std::vector<RendezvousOptions>& ranks, const RankFunction& function);

/// `call`'s exception, "" for none.
std::string error_of(const std::function<void()>& call);

/// A program that runs beside the test, with pipes to its standard input and from its standard output; killed at the
/// end. (Not only a fork: threads of earlier tests may run, and then the thread sanitizer allows it no new ones.)
class ChildProcess {
 public:
  ChildProcess(const std::string& program, const std::vector<std::string>& words);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number) const;
  void say(const std::string& text) const;
  /// Its exit status, or minus the signal that ended it; and what it printed.
  int wait(std::string* output = nullptr);

 private:
  pid_t pid_ = -1;
  Socket input_, output_;
};

}  // namespace sinter::train::testing
