#include "train/ranks/launch_environment.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "train/ranks/slurm_lists.h"

namespace sinter::train {
namespace {

using Variables = std::map<std::string, std::string>;

LaunchEnvironment read(const Variables& variables) {
  return from_environment([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

/// Rank, world size, local rank, local world size, launcher, host:port of the rendezvous.
std::string summary(const LaunchEnvironment& e) {
  return std::to_string(e.rank) + "/" + std::to_string(e.world_size) + " " + std::to_string(e.local_rank) + "/" +
         std::to_string(e.local_world_size) + " " + e.launcher + " " + e.master_address + ":" +
         std::to_string(e.master_port);
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code() == ErrorCode::usage ? error.what() : std::string("another code: ") + error.what();
  }
  return "accepted";
}

/// `more` over `base`; an empty value takes a variable away.
Variables with(Variables base, const Variables& more) {
  for (const auto& [name, value] : more) base[name] = value;
  return base;
}

/// What the launchers set, of four ranks on two nodes the third.
const Variables kTorchrun = {{"RANK", "2"},
                             {"WORLD_SIZE", "4"},
                             {"LOCAL_RANK", "0"},
                             {"LOCAL_WORLD_SIZE", "2"},
                             {"GROUP_RANK", "1"},
                             {"MASTER_ADDR", "node7"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_RUN_ID", "run"},
                             {"TORCHELASTIC_RESTART_COUNT", "1"}};
const Variables kMpirun = {{"OMPI_COMM_WORLD_RANK", "2"},
                           {"OMPI_COMM_WORLD_SIZE", "4"},
                           {"OMPI_COMM_WORLD_LOCAL_RANK", "2"},
                           {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                           {"PMIX_NAMESPACE", "1234567"}};
const Variables kSrun = {{"SLURM_JOB_ID", "77"},
                         {"SLURM_STEP_ID", "0"},
                         {"SLURM_PROCID", "2"},
                         {"SLURM_LOCALID", "0"},
                         {"SLURM_NODEID", "1"},
                         {"SLURM_STEP_NUM_TASKS", "4"},
                         {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"},
                         {"SLURM_STEP_NODELIST", "node[03-04]"},
                         {"SLURM_NTASKS", "8"},
                         {"SLURM_TASKS_PER_NODE", "2(x4)"},
                         {"SLURM_JOB_NODELIST", "node[01-04]"},
                         {"MASTER_PORT", "29500"}};
/// What a batch script and the shell of salloc have.
const Variables kBatch = {{"SLURM_JOB_ID", "77"},
                          {"SLURM_PROCID", "0"},
                          {"SLURM_LOCALID", "0"},
                          {"SLURM_NODEID", "0"},
                          {"SLURM_NTASKS", "4"},
                          {"SLURM_TASKS_PER_NODE", "2(x2)"},
                          {"SLURM_JOB_NODELIST", "node[03-04]"}};

struct Case {
  const char* what;
  Variables variables;
  const char* gives;
};

TEST(LaunchEnvironment, IsReadFromTheLaunchersVariables) {
  const std::vector<Case> cases = {
      {"no launcher", {}, "0/1 0/1  127.0.0.1:0"},
      {"MASTER_* alone", {{"MASTER_ADDR", "node7"}, {"MASTER_PORT", "29500"}}, "0/1 0/1  127.0.0.1:0"},
      {"empty is not set", {{"RANK", ""}, {"WORLD_SIZE", ""}, {"SLURM_PROCID", ""}}, "0/1 0/1  127.0.0.1:0"},
      {"a world of one without a rank", {{"WORLD_SIZE", "1"}}, "0/1 0/1  127.0.0.1:0"},

      {"torchrun", kTorchrun, "2/4 0/2 torchrun node7:29500"},
      {"one rank needs no address", {{"RANK", "0"}, {"WORLD_SIZE", "1"}}, "0/1 0/1 torchrun 127.0.0.1:0"},
      {"by hand on one machine",
       {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "1"}},
       "1/2 1/2 torchrun localhost:1"},
      {"by hand on several", with(kTorchrun, {{"LOCAL_RANK", ""}, {"LOCAL_WORLD_SIZE", ""}}),
       "2/4 -1/-1 torchrun node7:29500"},
      {"torchrun in a step of srun", with(kSrun, kTorchrun), "2/4 0/2 torchrun node7:29500"},
      {"one torchrun per node by mpirun", with(with(kMpirun, {{"OMPI_COMM_WORLD_RANK", "1"}}), kTorchrun),
       "2/4 0/2 torchrun node7:29500"},

      {"mpirun on one node", with(kMpirun, {{"MASTER_PORT", "29500"}}), "2/4 2/4 mpirun 127.0.0.1:29500"},
      {"mpirun on two nodes",
       with(kMpirun, {{"OMPI_COMM_WORLD_LOCAL_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                      {"MASTER_ADDR", "node7"}, {"MASTER_PORT", "29500"}}),
       "2/4 0/2 mpirun node7:29500"},
      {"mpirun in a batch script", with(with(kBatch, kMpirun), {{"MASTER_PORT", "29500"}}),
       "2/4 2/4 mpirun 127.0.0.1:29500"},
      {"mpirun whose daemons srun started", with(kSrun, kMpirun), "2/4 2/4 mpirun 127.0.0.1:29500"},
      {"a job script's WORLD_SIZE", with(kMpirun, {{"WORLD_SIZE", "4"}, {"MASTER_PORT", "29500"}}),
       "2/4 2/4 mpirun 127.0.0.1:29500"},

      {"srun", kSrun, "2/4 0/2 srun node03:29500"},
      {"srun with an address", with(kSrun, {{"MASTER_ADDR", "10.0.0.3"}}), "2/4 0/2 srun 10.0.0.3:29500"},
      {"srun on one node",
       with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "4"}, {"SLURM_NODEID", "0"}, {"SLURM_LOCALID", "2"}}),
       "2/4 2/4 srun 127.0.0.1:29500"},
      {"only the job's variables",
       with(kSrun, {{"SLURM_STEP_NUM_TASKS", ""}, {"SLURM_STEP_TASKS_PER_NODE", ""}, {"SLURM_STEP_NODELIST", ""}}),
       "2/8 0/2 srun node01:29500"},
      {"only what was asked for",
       with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", ""}, {"SLURM_TASKS_PER_NODE", ""}, {"SLURM_NTASKS_PER_NODE", "2"}}),
       "2/4 0/2 srun node03:29500"},
      {"srun of one task in a larger job, as salloc's shell",
       with(kSrun, {{"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_STEP_TASKS_PER_NODE", "1"}, {"SLURM_PROCID", "0"}}),
       "0/1 0/1 srun 127.0.0.1:29500"},
      {"a batch script", kBatch, "0/1 0/1  127.0.0.1:0"},
      {"Slurm's interactive step", with(kBatch, {{"SLURM_STEP_ID", "4294967290"}}), "0/1 0/1  127.0.0.1:0"},
  };
  for (const Case& each : cases)
    EXPECT_EQ(refusal([&] { EXPECT_EQ(summary(read(each.variables)), each.gives) << each.what; }), "accepted")
        << each.what;
}

TEST(LaunchEnvironment, WrongVariablesAreOneSentence) {
  const std::vector<Case> cases = {
      {"rank without size", {{"RANK", "1"}}, "RANK is 1, but WORLD_SIZE is not set; start the ranks with torchrun"},
      {"size without rank", {{"WORLD_SIZE", "4"}}, "WORLD_SIZE is 4, but RANK is not set; start the ranks"},
      {"local rank alone", {{"LOCAL_RANK", "1"}}, "LOCAL_RANK is 1, but RANK is not set; start the ranks"},
      {"rank too large", with(kTorchrun, {{"RANK", "4"}}), "RANK is 4, but must be less than WORLD_SIZE, which is 4"},
      {"no number", with(kTorchrun, {{"RANK", "one"}}), "RANK is \"one\", which is no whole number from 0 to"},
      {"half a number", with(kTorchrun, {{"WORLD_SIZE", "4x"}}), "WORLD_SIZE is \"4x\", which is no whole number"},
      {"negative", with(kTorchrun, {{"RANK", "-1"}}), "RANK is \"-1\", which is no whole number from 0"},
      {"beyond int", with(kTorchrun, {{"WORLD_SIZE", "9999999999"}}), "WORLD_SIZE is \"9999999999\""},
      {"no ranks", with(kTorchrun, {{"WORLD_SIZE", "0"}}), "WORLD_SIZE is \"0\", which is no whole number from 1"},
      {"port 0", with(kTorchrun, {{"MASTER_PORT", "0"}}), "MASTER_PORT is \"0\", which is no whole number from 1 to "},
      {"port too large", with(kTorchrun, {{"MASTER_PORT", "65536"}}), "MASTER_PORT is \"65536\""},
      {"no port", with(kTorchrun, {{"MASTER_PORT", ""}}), "but MASTER_PORT is not set; set it to a port"},
      {"no address", with(kTorchrun, {{"MASTER_ADDR", ""}}), "but MASTER_ADDR is not set; set it to the host"},
      {"local rank too large", with(kTorchrun, {{"LOCAL_RANK", "2"}}),
       "LOCAL_RANK is 2, but must be less than LOCAL_WORLD_SIZE, which is 2"},
      {"local size too large", with(kTorchrun, {{"LOCAL_WORLD_SIZE", "5"}}),
       "LOCAL_WORLD_SIZE is 5, but cannot be more than WORLD_SIZE, which is 4"},
      {"RANK left behind, mpirun", with(kMpirun, {{"RANK", "0"}, {"WORLD_SIZE", "1"}}),
       "RANK is 0 and WORLD_SIZE 1, but OMPI_COMM_WORLD_RANK is 2 of 4; unset RANK and WORLD_SIZE"},
      {"RANK left behind, srun",
       with(kSrun, {{"RANK", "0"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "n"}, {"MASTER_PORT", "1"}}),
       "RANK is 0 and WORLD_SIZE 4, but SLURM_PROCID is 2 of 4; unset RANK"},

      {"mpirun, no size", with(kMpirun, {{"OMPI_COMM_WORLD_SIZE", ""}}),
       "OMPI_COMM_WORLD_RANK is 2, but OMPI_COMM_WORLD_SIZE is not set; Open MPI's mpirun sets it"},
      {"mpirun, no rank", with(kMpirun, {{"OMPI_COMM_WORLD_RANK", ""}}),
       "OMPI_COMM_WORLD_SIZE is 4, but OMPI_COMM_WORLD_RANK is not set"},
      {"mpirun, no local rank", with(kMpirun, {{"OMPI_COMM_WORLD_LOCAL_RANK", ""}}),
       "but OMPI_COMM_WORLD_LOCAL_RANK is not set"},
      {"mpirun, rank too large", with(kMpirun, {{"OMPI_COMM_WORLD_RANK", "7"}}),
       "OMPI_COMM_WORLD_RANK is 7, but must be less than OMPI_COMM_WORLD_SIZE"},
      {"mpirun on several nodes",
       with(kMpirun, {{"OMPI_COMM_WORLD_LOCAL_RANK", "0"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}),
       "but MASTER_ADDR is not set; give mpirun -x MASTER_ADDR=<the host of rank 0>"},
      {"mpirun beside another size", with(kMpirun, {{"WORLD_SIZE", "8"}}),
       "WORLD_SIZE is 8, but OMPI_COMM_WORLD_SIZE is 4; unset WORLD_SIZE"},
      {"another MPI", {{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}}, "PMI_SIZE is 4, so another MPI than Open MPI"},

      {"srun, no size", with(kSrun, {{"SLURM_STEP_NUM_TASKS", ""}, {"SLURM_NTASKS", ""}}),
       "SLURM_PROCID is 2, but SLURM_STEP_NUM_TASKS is not set; srun sets it"},
      {"srun, rank too large", with(kSrun, {{"SLURM_PROCID", "4"}}),
       "SLURM_PROCID is 4, but must be less than SLURM_STEP_NUM_TASKS, which is 4"},
      {"srun, no local rank", with(kSrun, {{"SLURM_LOCALID", ""}}), "but SLURM_LOCALID is not set; srun sets it"},
      {"srun, local rank too large", with(kSrun, {{"SLURM_LOCALID", "2"}}),
       "SLURM_LOCALID is 2, but must be less than the number of tasks on this node, which is 2"},
      {"srun, no such node", with(kSrun, {{"SLURM_NODEID", "2"}}), "SLURM_NODEID is 2, but must be less than"},
      {"srun, other sum", with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "2(x3)"}}),
       "SLURM_STEP_TASKS_PER_NODE is \"2(x3)\", which are 6 tasks, but this step has 4"},
      {"srun, no list", with(kSrun, {{"SLURM_STEP_TASKS_PER_NODE", "two"}}), "is no list of tasks per node"},
      {"srun, no hosts", with(kSrun, {{"SLURM_STEP_NODELIST", ""}, {"SLURM_JOB_NODELIST", ""}}),
       "but SLURM_STEP_NODELIST is not set; set MASTER_ADDR to the host of rank 0"},
      {"srun, step", with(kSrun, {{"SLURM_STEP_ID", "batch"}}), "SLURM_STEP_ID is \"batch\", which is no whole number"},
      {"srun beside another size", with(kSrun, {{"WORLD_SIZE", "8"}}),
       "WORLD_SIZE is 8, but SLURM_STEP_NUM_TASKS is 4; unset WORLD_SIZE"},
  };
  for (const Case& each : cases) {
    const std::string said = refusal([&] { read(each.variables); });
    EXPECT_NE(said.find(each.gives), std::string::npos) << each.what << ": " << said;
  }
}

TEST(LaunchEnvironment, PortsFollowFromTheJob) {
  EXPECT_EQ(read(kTorchrun).rendezvous_port(), 29501);
  EXPECT_EQ(read(with(kTorchrun, {{"MASTER_PORT", "65535"}})).rendezvous_port(), 65534);
  const LaunchEnvironment first = read(kMpirun);
  EXPECT_TRUE(first.master_port >= 15000 && first.master_port <= 29998 && first.master_port % 2 == 0);
  EXPECT_EQ(read(with(kMpirun, {{"OMPI_COMM_WORLD_RANK", "3"}})).master_port, first.master_port);
  EXPECT_NE(read(with(kMpirun, {{"PMIX_NAMESPACE", "1234568"}})).master_port, first.master_port);
  const LaunchEnvironment step = read(with(kSrun, {{"MASTER_PORT", ""}}));
  EXPECT_NE(read(with(kSrun, {{"MASTER_PORT", ""}, {"SLURM_STEP_ID", "1"}})).master_port, step.master_port);
}

TEST(LaunchEnvironment, JobsAreToldApart) {
  EXPECT_EQ(read(kTorchrun).job_id, "run");
  EXPECT_EQ(read(kMpirun).job_id, "1234567");
  EXPECT_EQ(read(kSrun).job_id, "77.0");
}

TEST(LaunchEnvironment, EveryRankHasADeviceOfItsOwn) {
  const LaunchEnvironment known{.rank = 3, .world_size = 4, .local_rank = 1, .local_world_size = 2};
  LaunchEnvironment unknown = known;
  unknown.local_rank = -1;
  EXPECT_EQ(device_index(known, 8), 1);
  EXPECT_EQ(device_index(known, 1), 0);     // the launcher shows each rank another
  EXPECT_EQ(device_index(unknown, 1), 0);
  EXPECT_EQ(device_index({}, 8), 0);
  EXPECT_NE(refusal([&] { device_index(unknown, 8); }).find("LOCAL_RANK is not set, but rank 3 sees 8 GPUs"),
            std::string::npos);
  LaunchEnvironment crowded = known;
  crowded.local_rank = 2;
  crowded.local_world_size = 4;
  EXPECT_NE(refusal([&] { device_index(crowded, 2); }).find("start at most 2 ranks on a node"), std::string::npos);
}

TEST(SlurmLists, FirstHost) {
  const std::map<std::string, std::string> hosts = {
      {"node1", "node1"},         {"node1,node2", "node1"},           {"node[03-07,9],login1", "node03"},
      {"node[9,03-07]", "node9"}, {"rack[0-1]n[1-8]-ib", "rack0n1-ib"}, {"a-b.c_d", "a-b.c_d"}};
  for (const auto& [list, host] : hosts) EXPECT_EQ(first_host("X", list), host);
  for (const char* list : {"", ",", "node[", "node[]", "node[-3]", "node[3", "node[3x]", "no de", "n]", "node[3;rm]"})
    EXPECT_NE(refusal([&] { first_host("X", list); }).find("is no list of hosts"), std::string::npos) << list;
}

TEST(SlurmLists, TasksPerNode) {
  EXPECT_EQ(tasks_per_node("X", "2(x3),1"), (std::vector<int>{2, 2, 2, 1}));
  EXPECT_EQ(tasks_per_node("X", "4"), (std::vector<int>{4}));
  EXPECT_EQ(tasks_per_node("X", "1,2(x2)"), (std::vector<int>{1, 2, 2}));
  for (const char* list : {"", "x", "2(", "2(x", "2(x3", "2(x0)", "0", "-1", "2,", ",2", "2(x3)1", "2;1",
                           "2(x999999999)", "1(x1000000),1", "99999999999"})
    EXPECT_NE(refusal([&] { tasks_per_node("X", list); }).find("is no list of tasks"), std::string::npos) << list;
}

}  // namespace
}  // namespace sinter::train
