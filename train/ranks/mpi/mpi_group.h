// Ranks that are processes on CPUs, started by mpirun or srun: ProcessGroup over MPI.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/process_group.h"
#include "core/runtime/backend_library.h"
#include "train/ranks/mpi/mpi_table.h"

namespace sinter::train {

/// MPI, or the reason why it cannot be used.
struct MpiLibrary {
  const MpiTable* table = nullptr;   ///< null where it cannot be used; stays loaded for ever
  std::string why_unusable;          ///< half a sentence: "it was not built: there is no libsinter_mpi.so in ..."
};

/// Loads libsinter_mpi.so from the first of `folders` that has it. Anything that is wrong with it is an answer and not
/// an exception: no such file, no MPI on this machine (the system's own words), another version of sinter. MPI itself
/// does not start yet.
MpiLibrary load_mpi(const std::vector<std::filesystem::path>& folders = backend_folders());

struct MpiOptions {
  /// Tensors are reduced in pieces of so many bytes, which take twice as much memory beside the operands.
  std::size_t piece_bytes = std::size_t{4} << 20;
  /// The largest message. MPI counts bytes in an int.
  std::size_t message_bytes = std::size_t{1} << 30;
  /// Called with true when this rank comes to an operation, and with false when it leaves, by the thread that carries
  /// it out. May be empty, and may differ between ranks.
  std::function<void(bool waits)> at_operation{};
  /// Counted up again and again while this rank waits for others. May be null, and may differ between ranks.
  std::shared_ptr<std::atomic<std::int64_t>> looks{};
};

/// All processes of an MPI job, with the contract of ProcessGroup: bit for bit what LocalSim computes. A rank sends and
/// receives 2 n (R - 1) / R elements in an all_reduce of n, and half of that in a reduce_scatter.
///
/// One in the life of a process: MPI does not start twice. Calls come from one thread at a time. Every operation begins
/// with a meeting of all ranks, in which their calls are compared; a refused call has touched nothing, and the group
/// goes on.
///
/// Error(io) when MPI fails, with its words. The group is then broken: every later operation throws the same sentence,
/// and the process should end, because MPI may still write the operands of the operation that failed.
class MpiGroup final : public ProcessGroup {
 public:
  /// Starts MPI. `options` are the same on all ranks. Error(io): MPI does not start, with its words.
  explicit MpiGroup(const MpiTable& table, const MpiOptions& options = {});
  /// finish() where that was not called; what it throws is lost. Leaves a broken group as it is.
  ~MpiGroup() override;
  MpiGroup(const MpiGroup&) = delete;
  MpiGroup& operator=(const MpiGroup&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  /// Ends MPI when all ranks have come here; no operation can follow. Error(usage) when others wait for this rank in an
  /// operation, which throw at the same time: "rank 1 returned while rank 0 waits for it in ...". MPI has ended all the
  /// same, as soon as these finish too.
  void finish();

  /// Ends the processes of all ranks at once, whatever they do; this one with exit code `code`.
  [[noreturn]] void abort(int code);

 private:
  class Reduction;
  class Visit;
  struct Header;

  void run(const Collective& call) override;
  void meet(const Collective& call, bool leaves);
  void gather(const Collective& call);
  void check(const char* operation, const MpiAnswer& answer);
  void close(const char* operation);

  const MpiTable& table_;
  MpiOptions options_;
  MpiJob* job_ = nullptr;           // null once MPI has ended here
  int rank_ = 0;
  int size_ = 1;
  int first_gone_ = -1;             // the lowest rank that has finished while others went on
  std::string broken_;              // why, or ""
  std::vector<Header> headers_;     // of all ranks, in the last meeting
  std::vector<Collective> calls_;   // the same
  std::vector<MpiSend> sends_;      // an entry for each rank
  std::vector<MpiReceive> receives_;
  std::vector<std::byte> scratch_;  // what the others sent of two pieces
};

}  // namespace sinter::train
