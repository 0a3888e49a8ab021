#include "train/world.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
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

/// Ends this process when another rank has failed: it may hang in an operation that never returns. One of those that
/// are left says why. The others give it time, since the launcher ends all as soon as one has ended.
void end_with(const RankFailure& failure, int rank) {
  if (failure.rank == rank) return;   // it says so itself, and ends
  const int speaker = failure.rank == 0 ? 1 : 0;
  if (rank == speaker)
    std::fprintf(stderr, "sinter: %s; all other ranks end\n", failure.sentence().c_str());
  else
    std::this_thread::sleep_for(kTimeToSpeak);
  std::fflush(nullptr);
  _exit(1);
}

std::shared_ptr<ProcessGroup> connect(const LaunchEnvironment& environment) {
  const std::string started = environment.launcher + " started " + std::to_string(environment.world_size) + " ranks";
  if (environment.launcher == "torchrun")
    fail(ErrorCode::usage, started, ", but ranks on the CPU exchange gradients through MPI; start them with mpirun ",
         "-np ", environment.world_size, ", or with --nproc ", environment.world_size);
  static const MpiLibrary mpi = load_mpi();
  if (mpi.table == nullptr) fail(ErrorCode::not_found, started, ", but MPI cannot be used: ", mpi.why_unusable);
  auto group = std::make_shared<MpiGroup>(*mpi.table);
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
  if (device.type() == DeviceType::cuda)
    sinter::fail(ErrorCode::unsupported, environment.launcher, " started ", environment.world_size,
                " ranks, but on several GPUs they would need NCCL, which sinter does not use yet; start one process, "
                "or pass --use_cpu");
  rendezvous_ = std::make_unique<Rendezvous>(RendezvousOptions{
      .rank = environment.rank,
      .world_size = environment.world_size,
      .host = environment.master_address,
      .port = environment.rendezvous_port(),
      .job_id = environment.job_id,
      .lost_timeout = timeout,
      .on_failure = [rank = environment.rank](const RankFailure& failure) { end_with(failure, rank); }});
  group_ = connect(environment);
}

World::~World() = default;

std::shared_ptr<TrainerCallback> World::reporter() const {
  return rendezvous_ == nullptr ? nullptr : std::make_shared<StepReporter>(*rendezvous_);
}

bool World::fail(const std::string& reason) noexcept {
  if (rendezvous_ == nullptr) return true;
  rendezvous_->fail(reason);
  const std::optional<RankFailure> first = rendezvous_->failure();
  return !first || first->rank == rank();
}

void World::end() {
  if (rendezvous_ != nullptr) rendezvous_->goodbye();
}

int threads_of_rank(const LaunchEnvironment& environment) {
  const int mine = ThreadPool::available_cores();
  const bool bound = mine < sysconf(_SC_NPROCESSORS_ONLN);
  return bound ? mine : std::max(1, mine / std::max(1, environment.local_world_size));
}

void start_ranks(int ranks, const std::vector<std::string>& arguments) {
  // Ranks are not bound to a core each: they share the machine's threads (threads_of_rank).
  std::vector<std::string> words = {"mpirun", "-np", std::to_string(ranks), "--bind-to", "none", "--oversubscribe"};
  if (geteuid() == 0) words.insert(words.end(), {"--allow-run-as-root"});   // who starts as root has asked for it
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  std::fflush(nullptr);
  execvp("mpirun", pointers.data());
  sinter::fail(ErrorCode::not_found, "nproc is ", ranks, ", and mpirun, which starts that many ranks, cannot be run: ",
              std::strerror(errno), "; on Debian it is in the package openmpi-bin");
}

}  // namespace sinter::train
