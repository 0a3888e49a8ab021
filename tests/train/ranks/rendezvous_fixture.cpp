#include "tests/train/ranks/rendezvous_fixture.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <thread>

#include "core/error.h"
#include "train/ranks/rendezvous_socket.h"

namespace sinter::train::testing {

int free_port() {
  for (int tries = 0; tries < 10'000; ++tries) {
    // Below those that the system gives to outgoing connections; tests that run beside this one begin elsewhere.
    const int port = 10'000 + (static_cast<int>(getpid()) * 7 + tries) % 10'000;
    if (error_of([&] { listen_at("127.0.0.1", port); }).empty()) return port;
  }
  ADD_FAILURE() << "no port is free";
  return 1;
}

RendezvousOptions options(int rank, int world_size, int port) {
  return {.rank = rank,
          .world_size = world_size,
          .port = port,
          .job_id = "test",
          .start_timeout = std::chrono::seconds(60),
          .lost_timeout = std::chrono::seconds(30)};
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::vector<std::string> run_ranks(const std::vector<RendezvousOptions>& ranks, const RankFunction& function) {
  std::vector<std::string> errors(ranks.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < ranks.size(); ++i)
    threads.emplace_back([&, i] {
      errors[i] = error_of([&] {
        Rendezvous rendezvous(ranks[i]);
        function(rendezvous, ranks[i].rank);
      });
    });
  for (std::thread& thread : threads) thread.join();
  return errors;
}

ChildProcess::ChildProcess(const std::string& program, const std::vector<std::string>& words) {
  int input[2], output[2];
  if (pipe2(input, O_CLOEXEC) != 0 || pipe2(output, O_CLOEXEC) != 0) fail(ErrorCode::io, "no pipes");
  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {   // only calls that are allowed between fork and exec
    if (dup2(input[0], STDIN_FILENO) < 0 || dup2(output[1], STDOUT_FILENO) < 0) _exit(127);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  input_ = Socket(input[1]);
  output_ = Socket(output[0]);
  close(input[0]);
  close(output[1]);
}

ChildProcess::~ChildProcess() {
  if (pid_ <= 0) return;
  signal(SIGKILL);
  wait();
}

void ChildProcess::signal(int number) const { kill(pid_, number); }

void ChildProcess::say(const std::string& text) const {
  EXPECT_EQ(write(input_.descriptor(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

int ChildProcess::wait(std::string* output) {
  char bytes[4096];
  for (;;) {
    const ssize_t got = read(output_.descriptor(), bytes, sizeof(bytes));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (output != nullptr) output->append(bytes, static_cast<std::size_t>(got));
  }
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace sinter::train::testing
