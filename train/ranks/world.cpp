#include "train/ranks/world.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <span>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/runtime/thread_pool.h"
#include "train/ending.h"
#include "train/ranks/mpi/mpi_group.h"

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

/// Ends this process when NCCL has failed, beside a thread that may hang in it: the others learn it and end too.
void end_with(const std::string& sentence, Rendezvous& rendezvous, int rank) {
  std::signal(SIGTERM, SIG_IGN);
  rendezvous.fail(sentence);
  const std::optional<RankFailure> first = rendezvous.failure();
  const bool is_mine = !first || first->rank == rank;
  const std::string says = first ? first->sentence() : sentence;
  if (is_mine) std::fprintf(stderr, "sinter: %s; all ranks end\n", says.c_str());
  std::fflush(nullptr);
  if (!is_mine) std::this_thread::sleep_for(kTimeToSpeak);
  _exit(1);
}

std::string started(const LaunchEnvironment& environment) {
  return environment.launcher + " started " + std::to_string(environment.world_size) + " ranks";
}

/// Error where the ranks that were started cannot be connected, which is known without any other rank.
void check_nccl(const LaunchEnvironment& environment, const NcclLibrary& nccl) {
  if (nccl.functions == nullptr)
    fail(ErrorCode::not_found, started(environment), ", but NCCL, which connects GPUs, cannot be used: ",
         nccl.why_unusable, "; install it (pip's nvidia-nccl-cu13, its lib folder in LD_LIBRARY_PATH), or start one ",
         "process");
}

/// The same for ranks on CPUs.
const MpiTable& mpi_of(const LaunchEnvironment& environment) {
  if (environment.launcher == "torchrun")
    fail(ErrorCode::usage, started(environment), ", but ranks on the CPU exchange gradients through MPI; start them ",
         "with mpirun -np ", environment.world_size, ", or with --nproc ", environment.world_size,
         ", and without RANK and WORLD_SIZE in the environment");
  static const MpiLibrary mpi = load_mpi();
  if (mpi.table == nullptr)
    fail(ErrorCode::not_found, started(environment), ", but MPI cannot be used: ", mpi.why_unusable,
         "; build the target sinter_mpi, for which Debian has libopenmpi-dev, and install openmpi-bin to run it");
  return *mpi.table;
}

std::shared_ptr<ProcessGroup> connect_by_mpi(const LaunchEnvironment& environment, const MpiTable& mpi,
                                             Rendezvous& rendezvous) {
  auto group = std::make_shared<MpiGroup>(
      mpi, MpiOptions{.at_operation = [&rendezvous](bool waits) { rendezvous.at_operation(waits); },
                      .looks = rendezvous.looks()});
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
  if (device.type() == DeviceType::cuda) {
    static const NcclLibrary nccl = load_nccl();
    connect(environment, device, timeout, nccl);
    return;
  }
  const MpiTable& mpi = mpi_of(environment);
  meet(environment, timeout);
  try {
    group_ = connect_by_mpi(environment, mpi, *rendezvous_);
  } catch (const Error& error) {
    rendezvous_->fail(error.what());
    throw;
  }
}

World::World(const LaunchEnvironment& environment, Device device, std::chrono::seconds timeout,
             const NcclLibrary& nccl) {
  connect(environment, device, timeout, nccl);
}

void World::meet(const LaunchEnvironment& environment, std::chrono::seconds timeout) {
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
}

void World::connect(const LaunchEnvironment& environment, Device device, std::chrono::seconds timeout,
                    const NcclLibrary& nccl) {
  check_nccl(environment, nccl);
  meet(environment, timeout);
  try {
    nccl::UniqueId id{};
    if (environment.rank == 0) id = make_unique_id(*nccl.functions);
    const std::vector<std::byte> bytes =
        rendezvous_->broadcast(environment.rank == 0 ? std::as_bytes(std::span(&id, 1)) : std::span<const std::byte>());
    if (bytes.size() != sizeof id) sinter::fail(ErrorCode::io, "rank 0 sent an NCCL id of ", bytes.size(), " bytes");
    std::memcpy(&id, bytes.data(), sizeof id);
    NcclOptions options{.start_timeout = timeout,
                        .timeout = kAbsentFactor * timeout,
                        .on_failure = [this, rank = environment.rank](const std::string& sentence) {
                          end_with(sentence, *rendezvous_, rank);
                        }};
    nccl_ = std::make_shared<NcclGroup>(*nccl.functions, id, environment.rank, environment.world_size, device,
                                        std::move(options));
    group_ = nccl_;
  } catch (const Error& error) {
    rendezvous_->fail(error.what());
    throw;
  }
}

World::~World() {
  if (nccl_ != nullptr) nccl_->abandon();   // whose thread uses the rendezvous
}

std::shared_ptr<TrainerCallback> World::reporter() const {
  return rendezvous_ == nullptr ? nullptr : std::make_shared<StepReporter>(*rendezvous_);
}

int World::run(const char* program, const std::function<int()>& body) {
  try {
    const int code = body();
    end();
    return code;
  } catch (const std::exception&) {
    if (size() == 1) throw;
    const Ending ending = ending_of_exception();
    if (const std::string sentence = fail(ending.sentence); !sentence.empty()) say(program, sentence);
    std::fflush(nullptr);
    _exit(ending.code);   // MPI's own end would wait for the others
  }
}

std::string World::fail(const std::string& reason) noexcept {
  if (rendezvous_ == nullptr) return reason;
  rendezvous_->fail(reason);
  const std::optional<RankFailure> first = rendezvous_->failure();
  if (!first) return reason;
  return first->rank == rank() ? first->sentence() : "";
}

void World::end() {
  if (rendezvous_ == nullptr) return;
  if (nccl_ != nullptr) {
    rendezvous_->exchange_flag(0);   // a rank that still writes files may take longer than NCCL waits
    nccl_->finish();
  }
  rendezvous_->goodbye();
}

Device device_of_rank(const LaunchEnvironment& environment, Device device, bool by_number, int gpus) {
  if (device.type() != DeviceType::cuda || environment.world_size == 1) return device;
  const Device own = Device::cuda(device_index(environment, gpus));
  if (by_number && device != own)
    fail(ErrorCode::usage, "device is ", device.str(), ", but ", started(environment), ", and rank ", environment.rank,
         " takes ", own.str(), "; pass --device cuda, with which every rank takes a GPU of its own");
  return own;
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

[[noreturn]] void become_mpirun(std::vector<std::string>& words, const std::string& program) {
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  setpgid(0, 0);   // the terminal's Ctrl-C goes to the waiting process alone
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (const int nothing = open("/dev/null", O_RDONLY); nothing >= 0) dup2(nothing, STDIN_FILENO);
  execvp("mpirun", pointers.data());
  say(program.c_str(), std::string("nproc is given, and mpirun, which starts that many ranks, cannot be run: ") +
                           std::strerror(errno) + "; on Debian it is in the package openmpi-bin");
  _exit(2);
}

}  // namespace

int start_ranks(int ranks, const std::vector<std::string>& arguments, Device device) {
  const LaunchEnvironment to_be{.world_size = ranks, .launcher = "nproc"};   // for what each of them would say
  if (device.type() == DeviceType::cuda)
    check_nccl(to_be, load_nccl());
  else
    mpi_of(to_be);
  // Ranks are not bound to a core each: they share the machine's threads (threads_of_rank).
  std::vector<std::string> words = {"mpirun", "-np", std::to_string(ranks), "--bind-to", "none", "--oversubscribe"};
  if (geteuid() == 0) words.insert(words.end(), {"--allow-run-as-root"});   // who starts as root has asked for it
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0)
    sinter::fail(ErrorCode::io, "nproc is ", ranks, ", and no process can be made: ", std::strerror(errno));
  if (child == 0) become_mpirun(words, std::filesystem::path(arguments.front()).filename().string());
  g_mpirun = child;
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) std::signal(number, hand_on);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return code == 128 + SIGUSR1 && g_signal != 0 ? 128 + g_signal : code;
}

}  // namespace sinter::train
