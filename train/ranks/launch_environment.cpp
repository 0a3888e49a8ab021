#include "train/ranks/launch_environment.h"

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <optional>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "train/ranks/slurm_lists.h"

namespace sinter::train {
namespace {

constexpr const char* kTorchrunWayOut =
    "; start the ranks with torchrun, or unset RANK and WORLD_SIZE to train in one process";
constexpr const char* kMpirunWayOut = "; Open MPI's mpirun sets it: do not set it by hand";
constexpr const char* kSrunWayOut = "; srun sets it: do not set it by hand";

/// One variable that is set, with what to say when it is wrong.
struct Variable {
  const char* name;
  std::string text;
};

class Variables {
 public:
  explicit Variables(const GetEnv& get) : get_(get) {}

  /// The first of these that is set.
  std::optional<Variable> find(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      const char* text = get_(name);
      if (text != nullptr && *text != '\0') return Variable{name, text};
    }
    return std::nullopt;
  }
  bool has(const char* name) const { return find({name}).has_value(); }
  std::string text(std::initializer_list<const char*> names, const std::string& otherwise) const {
    const auto variable = find(names);
    return variable ? variable->text : otherwise;
  }

  std::optional<int> number(std::initializer_list<const char*> names, int least, int most, const char* way_out) const {
    const auto variable = find(names);
    if (!variable) return std::nullopt;
    int value = 0;
    const char* end = variable->text.data() + variable->text.size();
    const auto [stopped, error] = std::from_chars(variable->text.data(), end, value);
    if (error != std::errc() || stopped != end || value < least || value > most)
      fail(ErrorCode::usage, variable->name, " is \"", variable->text, "\", which is no whole number from ", least,
           " to ", most, way_out);
    return value;
  }
  /// `beside` is a variable that is set, and means nothing without this one.
  int required(std::initializer_list<const char*> names, const char* beside, int least, const char* way_out) const {
    const auto value = number(names, least, std::numeric_limits<int>::max(), way_out);
    if (!value)
      fail(ErrorCode::usage, beside, " is ", text({beside}, ""), ", but ", *names.begin(), " is not set", way_out);
    return *value;
  }

 private:
  const GetEnv& get_;
};

/// `rank` and `size` with the names of their variables.
void check_below(const char* rank_name, int rank, const char* size_name, int size, const char* way_out) {
  if (rank >= size)
    fail(ErrorCode::usage, rank_name, " is ", rank, ", but must be less than ", size_name, ", which is ", size,
         way_out);
}

void check_local(const LaunchEnvironment& e, const char* rank_name, const char* size_name, const char* world_name,
                 const char* way_out) {
  if (e.local_world_size > 0) check_below(rank_name, e.local_rank, size_name, e.local_world_size, way_out);
  if (e.local_world_size > e.world_size)
    fail(ErrorCode::usage, size_name, " is ", e.local_world_size, ", but cannot be more than ", world_name,
         ", which is ", e.world_size, way_out);
}

bool is_this_machine(std::string_view address) {
  return address == "localhost" || address == "::1" || address.starts_with("127.");
}

/// The same everywhere, unlike std::hash (FNV-1a).
std::uint64_t stable_hash(std::string_view text) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

std::optional<int> given_port(const Variables& variables) {
  return variables.number({"MASTER_PORT"}, 1, 65535, "; set it to a port that is free on rank 0's node, such as 29500");
}

int port_of_job(const Variables& variables, const std::string& job_id) {
  return given_port(variables).value_or(15000 + 2 * static_cast<int>(stable_hash(job_id) % 7500));
}

/// An srun task, and not the shell of a batch script, of salloc or of Slurm's interactive step.
bool is_srun_task(const Variables& variables) {
  const auto step = variables.find({"SLURM_STEP_ID", "SLURM_STEPID"});
  if (!step || !variables.has("SLURM_PROCID")) return false;
  std::uint64_t id = 0;
  const char* end = step->text.data() + step->text.size();
  const auto [stopped, error] = std::from_chars(step->text.data(), end, id);
  if (error != std::errc() || stopped != end)
    fail(ErrorCode::usage, step->name, " is \"", step->text, "\", which is no whole number", kSrunWayOut);
  return id < 0xfffffff0u;  // Slurm's numbers for steps that srun did not make: batch, interactive, extern
}

/// WORLD_SIZE may stand beside another launcher's variables, as job scripts export it; it must agree.
void check_world_size(const Variables& variables, const char* size_name, int size) {
  const auto said = variables.number({"WORLD_SIZE"}, 1, std::numeric_limits<int>::max(), "; unset it");
  if (said && *said != size)
    fail(ErrorCode::usage, "WORLD_SIZE is ", *said, ", but ", size_name, " is ", size,
         "; unset WORLD_SIZE, which this launcher does not need");
}

/// RANK wins over the launcher around it, which may have started one torchrun for each node. But where it was set by
/// hand and each of these processes would be the only one, or has another's number, it was left behind.
void check_outer(const Variables& variables, const LaunchEnvironment& e, const char* rank_name,
                 std::initializer_list<const char*> size_names) {
  const int most = std::numeric_limits<int>::max();
  const auto rank = variables.number({rank_name}, 0, most, "");
  const auto size = variables.number(size_names, 1, most, "");
  if (!rank || !size) return;
  if ((e.world_size == 1 && *size > 1) || (e.world_size == *size && e.rank != *rank))
    fail(ErrorCode::usage, "RANK is ", e.rank, " and WORLD_SIZE ", e.world_size, ", but ", rank_name, " is ", *rank,
         " of ", *size, "; unset RANK and WORLD_SIZE, which this launcher does not need");
}

void read_master(const Variables& variables, LaunchEnvironment& e) {
  const auto address = variables.find({"MASTER_ADDR"});
  const auto port = given_port(variables);
  if (e.world_size > 1 && !address)
    fail(ErrorCode::usage, "WORLD_SIZE is ", e.world_size, ", but MASTER_ADDR is not set",
         "; set it to the host of rank 0, or start the ranks with torchrun");
  if (e.world_size > 1 && !port)
    fail(ErrorCode::usage, "WORLD_SIZE is ", e.world_size, ", but MASTER_PORT is not set",
         "; set it to a port that is free on rank 0's node, such as 29500, or start the ranks with torchrun");
  if (address) e.master_address = address->text;
  e.master_port = port.value_or(0);
}

LaunchEnvironment from_torchrun(const Variables& variables) {
  const int most = std::numeric_limits<int>::max();
  LaunchEnvironment e{.launcher = "torchrun", .job_id = variables.text({"TORCHELASTIC_RUN_ID"}, "")};
  e.world_size = variables.required({"WORLD_SIZE"}, "RANK", 1, kTorchrunWayOut);
  e.rank = *variables.number({"RANK"}, 0, most, kTorchrunWayOut);
  check_below("RANK", e.rank, "WORLD_SIZE", e.world_size, kTorchrunWayOut);
  read_master(variables, e);
  const bool one_node = e.world_size == 1 || is_this_machine(e.master_address);
  e.local_rank = variables.number({"LOCAL_RANK"}, 0, most, kTorchrunWayOut).value_or(one_node ? e.rank : -1);
  e.local_world_size =
      variables.number({"LOCAL_WORLD_SIZE"}, 1, most, kTorchrunWayOut).value_or(one_node ? e.world_size : -1);
  check_local(e, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", kTorchrunWayOut);
  if (!variables.has("TORCHELASTIC_RUN_ID")) {
    check_outer(variables, e, "OMPI_COMM_WORLD_RANK", {"OMPI_COMM_WORLD_SIZE"});
    if (is_srun_task(variables)) check_outer(variables, e, "SLURM_PROCID", {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"});
  }
  return e;
}

LaunchEnvironment from_mpirun(const Variables& variables) {
  LaunchEnvironment e{.launcher = "mpirun"};
  e.job_id = variables.text({"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"}, "");
  const char* beside = variables.has("OMPI_COMM_WORLD_RANK") ? "OMPI_COMM_WORLD_RANK" : "OMPI_COMM_WORLD_SIZE";
  e.rank = variables.required({"OMPI_COMM_WORLD_RANK"}, beside, 0, kMpirunWayOut);
  e.world_size = variables.required({"OMPI_COMM_WORLD_SIZE"}, beside, 1, kMpirunWayOut);
  e.local_rank = variables.required({"OMPI_COMM_WORLD_LOCAL_RANK"}, beside, 0, kMpirunWayOut);
  e.local_world_size = variables.required({"OMPI_COMM_WORLD_LOCAL_SIZE"}, beside, 1, kMpirunWayOut);
  check_below("OMPI_COMM_WORLD_RANK", e.rank, "OMPI_COMM_WORLD_SIZE", e.world_size, kMpirunWayOut);
  check_local(e, "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE", kMpirunWayOut);
  check_world_size(variables, "OMPI_COMM_WORLD_SIZE", e.world_size);
  const auto address = variables.find({"MASTER_ADDR"});
  if (!address && e.local_world_size < e.world_size)
    fail(ErrorCode::usage, "OMPI_COMM_WORLD_SIZE is ", e.world_size, " with ", e.local_world_size,
         " ranks on this node, but MASTER_ADDR is not set; give mpirun -x MASTER_ADDR=<the host of rank 0>");
  if (address) e.master_address = address->text;
  e.master_port = port_of_job(variables, e.job_id);
  return e;
}

int slurm_local_world_size(const Variables& variables, int world_size) {
  if (world_size == 1) return 1;
  const auto list = variables.find({"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"});
  if (!list) {
    const int per_node = variables.required({"SLURM_NTASKS_PER_NODE"}, "SLURM_PROCID", 1, kSrunWayOut);
    return per_node < world_size ? per_node : world_size;
  }
  const std::vector<int> tasks = tasks_per_node(list->name, list->text);
  const auto total = std::accumulate(tasks.begin(), tasks.end(), std::int64_t{0});
  if (total != world_size)
    fail(ErrorCode::usage, list->name, " is \"", list->text, "\", which are ", total, " tasks, but this step has ",
         world_size, kSrunWayOut);
  if (tasks.size() == 1) return tasks.front();
  const int node = variables.required({"SLURM_NODEID"}, "SLURM_PROCID", 0, kSrunWayOut);
  check_below("SLURM_NODEID", node, "the number of nodes", static_cast<int>(tasks.size()), kSrunWayOut);
  return tasks[static_cast<std::size_t>(node)];
}

LaunchEnvironment from_srun(const Variables& variables) {
  LaunchEnvironment e{.launcher = "srun"};
  const auto size = variables.find({"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"});
  const char* size_name = size ? size->name : "SLURM_STEP_NUM_TASKS";
  e.world_size = variables.required({size_name}, "SLURM_PROCID", 1, kSrunWayOut);
  e.rank = variables.required({"SLURM_PROCID"}, "SLURM_PROCID", 0, kSrunWayOut);
  e.local_rank = variables.required({"SLURM_LOCALID"}, "SLURM_PROCID", 0, kSrunWayOut);
  check_below("SLURM_PROCID", e.rank, size_name, e.world_size, kSrunWayOut);
  e.local_world_size = slurm_local_world_size(variables, e.world_size);
  check_local(e, "SLURM_LOCALID", "the number of tasks on this node", size_name, kSrunWayOut);
  check_world_size(variables, size_name, e.world_size);
  e.job_id = variables.text({"SLURM_JOB_ID", "SLURM_JOBID"}, "") + "." +
             variables.text({"SLURM_STEP_ID", "SLURM_STEPID"}, "");
  if (const auto address = variables.find({"MASTER_ADDR"})) {
    e.master_address = address->text;
  } else if (e.local_world_size < e.world_size) {
    const auto nodes = variables.find({"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"});
    if (!nodes)
      fail(ErrorCode::usage, size_name, " is ", e.world_size, " with ", e.local_world_size,
           " tasks on this node, but SLURM_STEP_NODELIST is not set; set MASTER_ADDR to the host of rank 0");
    e.master_address = first_host(nodes->name, nodes->text);
  }
  e.master_port = port_of_job(variables, e.job_id);
  return e;
}

/// Nothing says which rank this is; but does something say that there are others?
void check_alone(const Variables& variables) {
  if (const auto size = variables.number({"WORLD_SIZE"}, 1, std::numeric_limits<int>::max(), kTorchrunWayOut);
      size.value_or(1) > 1)
    fail(ErrorCode::usage, "WORLD_SIZE is ", *size, ", but RANK is not set", kTorchrunWayOut);
  if (const auto local = variables.find({"LOCAL_RANK"}))
    fail(ErrorCode::usage, "LOCAL_RANK is ", local->text, ", but RANK is not set",
         "; start the ranks with torchrun, or unset LOCAL_RANK to train in one process");
  for (const char* name : {"PMI_SIZE", "MV2_COMM_WORLD_SIZE"})
    if (variables.number({name}, 1, std::numeric_limits<int>::max(), "").value_or(1) > 1)
      fail(ErrorCode::usage, name, " is ", variables.text({name}, ""), ", so another MPI than Open MPI started this",
           " process; use Open MPI's mpirun, torchrun or srun");
}

}  // namespace

LaunchEnvironment from_environment(const GetEnv& get) {
  const Variables variables(get);
  if (variables.has("RANK")) return from_torchrun(variables);
  if (variables.find({"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"})) return from_mpirun(variables);
  if (is_srun_task(variables)) return from_srun(variables);
  check_alone(variables);
  return {};
}

int device_index(const LaunchEnvironment& environment, int gpus) {
  if (gpus == 1 || environment.world_size == 1) return 0;
  if (environment.local_rank < 0)
    fail(ErrorCode::usage, "LOCAL_RANK is not set, but rank ", environment.rank, " sees ", gpus,
         " GPUs and needs one of its own; start the ranks with torchrun, or set LOCAL_RANK from 0 to ", gpus - 1);
  if (environment.local_rank >= gpus)
    fail(ErrorCode::usage, "rank ", environment.rank, " is number ", environment.local_rank, " on its node, which has ",
         gpus, " GPUs, and every rank needs one of its own; start at most ", gpus, " ranks on a node");
  return environment.local_rank;
}

}  // namespace sinter::train
