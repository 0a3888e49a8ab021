// The part of NCCL's C interface that sinter calls. The library is loaded at run time and its header is not needed to
// build; where it is at hand, nccl_library.cpp compares the numbers here with it.
#pragma once

#include <cstddef>

namespace sinter::train::nccl {

using Answer = int;                                      ///< ncclResult_t
inline constexpr Answer kSuccess = 0;
inline constexpr Answer kInProgress = 7;                 ///< of a communicator that does not wait: no error

using DataType = int;                                    ///< ncclDataType_t
inline constexpr DataType kU8 = 1, kI32 = 2, kI64 = 4, kF32 = 7, kF64 = 8;
using ReduceOp = int;                                    ///< ncclRedOp_t
inline constexpr ReduceOp kSum = 0, kMax = 2;            ///< the maximum of floats is that of fmax(): NaN loses

/// ncclUniqueId: what the ranks of one communicator have in common. Passed by value.
struct UniqueId {
  char bytes[128];
};

using Communicator = void*;                              ///< one rank's part; null after an error of CommInitRank

/// The functions, by the names behind "nccl". `stream` is a CUDA stream, on which an operation waits for its turn as a
/// kernel does; counts are of elements.
struct Functions {
  Answer (*GetVersion)(int* version);                    ///< 23007 is 2.30.7
  const char* (*GetErrorString)(Answer);
  const char* (*GetLastError)(Communicator);             ///< the newest of the process, for null as well
  Answer (*GetUniqueId)(UniqueId*);
  /// Waits until all ranks have called it. Takes the calling thread's device.
  Answer (*CommInitRank)(Communicator*, int ranks, UniqueId, int rank);
  Answer (*CommGetAsyncError)(Communicator, Answer* error);
  Answer (*CommAbort)(Communicator);                     ///< what is under way ends, with any result; frees it
  Answer (*CommDestroy)(Communicator);                   ///< may wait for the other ranks; frees it
  Answer (*AllReduce)(const void* send, void* receive, std::size_t count, DataType, ReduceOp, Communicator,
                      void* stream);
  Answer (*ReduceScatter)(const void* send, void* receive, std::size_t receive_count, DataType, ReduceOp, Communicator,
                          void* stream);
  Answer (*AllGather)(const void* send, void* receive, std::size_t send_count, DataType, Communicator, void* stream);
  Answer (*Broadcast)(const void* send, void* receive, std::size_t count, DataType, int root, Communicator,
                      void* stream);
};

}  // namespace sinter::train::nccl
