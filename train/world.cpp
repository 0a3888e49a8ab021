#include "train/world.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "core/runtime/thread_pool.h"
#include "train/mpi/mpi_group.h"

namespace sinter::train {
namespace {

/// More than ranks differ in when they learn that rank 0 was lost: the time between two heartbeats.
constexpr std::chrono::seconds kTimeToSpeak{2};

/// A rank that lives and yet does not come to an operation may be writing a large checkpoint to a slow disk.
constexpr int kAbsentFactor = 10;

/// Ends this process when another rank has failed: it may hang in an operation that never returns. A rank that ends of
/// an error says so itself; of one that was lost one of those that are left does, and should it live yet, it ends too.
/// The launcher ends all ranks as soon as one has ended, and takes that one's exit code: so the others wait.
void end_with(const RankFailure& failure, int rank) {
  if (failure.rank == rank && !failure.was_lost) return;
  std::signal(SIGTERM, SIG_IGN);   // the launcher's, which would be noted as a wish to stop
  const int speaker = failure.rank == 0 ? 1 : 0;
  if (failure.was_lost && rank == speaker)
    std::fprintf(stderr, "sinter: %s; all other ranks end\n", failure.sentence().c_str());
  std::fflush(nullptr);
  std::this_thread::sleep_for(kTimeToSpeak);
  _exit(1);
}

/// Error where the ranks that were started cannot be connected, which is known without any other rank.
const MpiTable& mpi_of(const LaunchEnvironment& environment, Device device) {
  const std::string started = environment.launcher + " started " + std::to_string(environment.world_size) + " ranks";
  if (device.type() == DeviceType::cuda)
    fail(ErrorCode::unsupported, started, ", but on several GPUs they would need NCCL, which sinter does not use yet; ",
         "start one process, or pass --use_cpu");
  if (environment.launcher == "torchrun")
    fail(ErrorCode::usage, started, ", but ranks on the CPU exchange gradients through MPI; start them with mpirun ",
         "-np ", environment.world_size, ", or with --nproc ", environment.world_size);
  static const MpiLibrary mpi = load_mpi();
  if (mpi.table == nullptr) fail(ErrorCode::not_found, started, ", but MPI cannot be used: ", mpi.why_unusable);
  return *mpi.table;
}

std::shared_ptr<ProcessGroup> connect(const LaunchEnvironment& environment, const MpiTable& mpi,
                                      Rendezvous& rendezvous) {
  auto group = std::make_shared<MpiGroup>(
      mpi, MpiOptions{.at_operation = [&rendezvous](bool waits) { rendezvous.at_operation(waits); }});
  if (group->rank() != environment.rank || group->size() != environment.world_size)
    fail(ErrorCode::usage, "the environment says rank ", environment.rank, " of ", environment.world_size,
         " and MPI says rank ", group->rank(), " of ", group->size(),
         "; start all ranks with one launcher (with srun: --mpi=pmix)");
  return group;
}

class StepReporter final : public TrainerCallback {
 public:
  explicit StepReporter(Rendezvous& rendezvous) : rendezvous_(rendezvous) {}
  bool looks_inside_steps() const override { return false; }
  void on_step_begin(CallbackContext& run) override { rendezvous_.report(run.state.global_step + 1); }

 private:
  Rendezvous& rendezvous_;
};

}  // namespace

World::World(const LaunchEnvironment& environment, Device device, std::chrono::seconds timeout)
    : group_(std::make_shared<SelfGroup>()) {
  if (environment.world_size == 1) return;
  const MpiTable& mpi = mpi_of(environment, device);
  rendezvous_ = std::make_unique<Rendezvous>(RendezvousOptions{
      .rank = environment.rank,
      .world_size = environment.world_size,
      .host = environment.master_address,
      .port = environment.rendezvous_port(),
      .job_id = environment.job_id,
      .start_timeout = timeout,
      .lost_timeout = timeout,
      .absent_timeout = kAbsentFactor * timeout,
      .on_failure = [rank = environment.rank](const RankFailure& failure) { end_with(failure, rank); }});
  try {
    group_ = connect(environment, mpi, *rendezvous_);
  } catch (const Error& error) {
    rendezvous_->fail(error.what());
    throw;
  }
}

World::~World() = default;

std::shared_ptr<TrainerCallback> World::reporter() const {
  return rendezvous_ == nullptr ? nullptr : std::make_shared<StepReporter>(*rendezvous_);
}

std::string World::fail(const std::string& reason) noexcept {
  if (rendezvous_ == nullptr) return reason;
  rendezvous_->fail(reason);
  const std::optional<RankFailure> first = rendezvous_->failure();
  if (!first) return reason;
  return first->rank == rank() ? first->sentence() : "";
}

void World::end() {
  if (rendezvous_ != nullptr) rendezvous_->goodbye();
}

int threads_of_rank(const LaunchEnvironment& environment) {
  const int mine = ThreadPool::available_cores();
  const bool bound = mine < sysconf(_SC_NPROCESSORS_ONLN);
  return bound ? mine : std::max(1, mine / std::max(1, environment.local_world_size));
}

namespace {

volatile std::sig_atomic_t g_signal = 0;   // that came to the process that waits for mpirun
volatile pid_t g_mpirun = 0;

/// mpirun kills ranks two seconds after a Ctrl-C; SIGUSR1 it hands on, and they stop as they should.
void hand_on(int number) {
  g_signal = number;
  kill(g_mpirun, SIGUSR1);
}

[[noreturn]] void become_mpirun(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  setpgid(0, 0);   // the terminal's Ctrl-C goes to the waiting process alone
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (const int nothing = open("/dev/null", O_RDONLY); nothing >= 0) dup2(nothing, STDIN_FILENO);
  execvp("mpirun", pointers.data());
  std::fprintf(stderr,
               "sst2: nproc is given, and mpirun, which starts that many ranks, cannot be run: %s; on Debian it is in "
               "the package openmpi-bin\n",
               std::strerror(errno));
  _exit(2);
}

}  // namespace

int start_ranks(int ranks, const std::vector<std::string>& arguments) {
  // Ranks are not bound to a core each: they share the machine's threads (threads_of_rank).
  std::vector<std::string> words = {"mpirun", "-np", std::to_string(ranks), "--bind-to", "none", "--oversubscribe"};
  if (geteuid() == 0) words.insert(words.end(), {"--allow-run-as-root"});   // who starts as root has asked for it
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0)
    sinter::fail(ErrorCode::io, "nproc is ", ranks, ", and no process can be made: ", std::strerror(errno));
  if (child == 0) become_mpirun(words);
  g_mpirun = child;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) std::signal(number, hand_on);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return code == 128 + SIGUSR1 && g_signal != 0 ? 128 + g_signal : code;
}

}  // namespace sinter::train
