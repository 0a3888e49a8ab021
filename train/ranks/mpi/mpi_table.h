// What libsinter_mpi.so offers: the few operations of MPI that MpiGroup needs, without a type of MPI's.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sinter::train {

/// This process' part in the job, and bytes that are under way between its ranks.
struct MpiJob;
struct MpiExchange;

/// "" when all is well, else what failed, in MPI's words: "MPI_Testall: MPI_ERR_TRUNCATE: message truncated".
struct [[nodiscard]] MpiAnswer {
  char why[512];
};

struct MpiSend {
  const void* data = nullptr;
  std::size_t bytes = 0;
};

struct MpiReceive {
  void* data = nullptr;
  std::size_t bytes = 0;
};

/// What the library exports: `extern "C" const MpiTable* sinter_mpi_table()`.
///
/// One call at a time, by any thread. All ranks make the same calls in the same order, with sizes that fit together.
/// After an answer that is not "" nothing but abort() may follow, and MPI may still write what it was given to receive.
struct MpiTable {
  std::uint32_t abi;
  const char* (*library)();   ///< "Open MPI v4.1.4"; before start() too

  /// Starts MPI, once in a process, with threads that call it in turn. Errors of MPI become answers from here on. More
  /// than `message_bytes` (at least 1, at most 2^31 - 1, the same on all ranks) go over in several messages. Whatever
  /// waits for other ranks counts `looks` up, again and again, where that is not null.
  MpiAnswer (*start)(std::size_t message_bytes, std::atomic<std::int64_t>* looks, MpiJob** job, int* rank, int* size);

  /// Bytes of every rank to every other: `send` and `receive` have an entry for each rank, which must be empty for this
  /// one's own. Nothing waits here. Until wait() has answered, what is sent must stay and what is received must not be
  /// looked at. Several exchanges may be under way; they are told apart by their order.
  MpiAnswer (*begin_exchange)(MpiJob* job, const MpiSend* send, const MpiReceive* receive, MpiExchange** exchange);
  MpiAnswer (*wait)(MpiExchange* exchange);   ///< and frees it, whatever it answers

  /// `bytes` of every rank (at most 2^31 - 1), in the order of the ranks.
  MpiAnswer (*all_gather)(MpiJob* job, const void* send, std::size_t bytes, void* receive);
  MpiAnswer (*broadcast)(MpiJob* job, void* data, std::size_t bytes, int root);

  /// Ends MPI, and frees the job. Waits for the other ranks to do the same.
  MpiAnswer (*finish)(MpiJob* job);
  /// Ends the processes of all ranks, this one with exit code `code`.
  void (*abort)(MpiJob* job, int code);
};

inline constexpr std::uint32_t kMpiAbi = 2;

}  // namespace sinter::train
