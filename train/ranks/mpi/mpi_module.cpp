// libsinter_mpi.so: the table of train/ranks/mpi/mpi_table.h over the MPI that this file is compiled with.
#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "train/ranks/mpi/mpi_table.h"

namespace sinter::train {

struct MpiJob {
  MPI_Comm ranks = MPI_COMM_NULL;   // a communicator of our own: messages of other users of MPI cannot get in
  int rank = 0;
  int size = 1;
  std::size_t message_bytes = INT_MAX;
  std::atomic<std::int64_t>* looks = nullptr;
};

struct MpiExchange {
  const MpiJob* job = nullptr;
  std::vector<MPI_Request> requests;
  std::vector<MPI_Status> statuses;
};

namespace {

MpiAnswer answer(const char* call, const char* words) {
  MpiAnswer result;
  std::snprintf(result.why, sizeof result.why, "%s: %s", call, words);
  return result;
}

/// "" for MPI_SUCCESS.
MpiAnswer answer(const char* call, int code) {
  if (code == MPI_SUCCESS) return {.why = ""};
  char words[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(code, words, &length) != MPI_SUCCESS) return answer(call, "an error that MPI cannot name");
  return answer(call, words);
}

bool failed(const MpiAnswer& result) { return result.why[0] != '\0'; }

/// No exception may leave the library: what `act` throws becomes an answer.
template <class Act>
MpiAnswer guarded(const char* call, Act&& act) noexcept {
  try {
    return act();
  } catch (const std::exception& error) {
    return answer(call, error.what());
  }
}

/// Calls send(offset, count) for one message after the other, until one fails.
template <class Send>
MpiAnswer in_messages(const MpiJob& job, const char* call, std::size_t bytes, Send&& send) {
  for (std::size_t offset = 0; offset < bytes; offset += job.message_bytes) {
    const MpiAnswer result =
        answer(call, send(offset, static_cast<int>(std::min(job.message_bytes, bytes - offset))));
    if (failed(result)) return result;
  }
  return {.why = ""};
}

/// The first words of what MPI says about itself, before a comma or the end of the line: "Open MPI v4.1.4".
std::string first_words() {
  char said[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  if (MPI_Get_library_version(said, &length) != MPI_SUCCESS) return "an MPI that does not say its name";
  std::string words(said);
  words.resize(std::min(words.find_first_of(",\r\n"), words.size()));
  std::replace(words.begin(), words.end(), '\t', ' ');
  return words;
}

const char* library() {
  static const std::string words = first_words();
  return words.c_str();
}

MpiAnswer open(MpiJob& job) {
  int begun = 0, level = 0;
  if (MpiAnswer result = answer("MPI_Initialized", MPI_Initialized(&begun)); failed(result)) return result;
  if (begun) return answer("MPI_Init_thread", "MPI was started in this process before, and it starts only once");
  MpiAnswer result = answer("MPI_Init_thread", MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level));
  if (failed(result)) return result;
  if (level < MPI_THREAD_SERIALIZED)
    return answer("MPI_Init_thread", "this MPI was built without threads, and sinter calls it from several");
  result = answer("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  if (!failed(result)) result = answer("MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &job.ranks));
  if (!failed(result))
    result = answer("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(job.ranks, MPI_ERRORS_RETURN));
  if (!failed(result)) result = answer("MPI_Comm_rank", MPI_Comm_rank(job.ranks, &job.rank));
  if (!failed(result)) result = answer("MPI_Comm_size", MPI_Comm_size(job.ranks, &job.size));
  return result;
}

MpiAnswer start(std::size_t message_bytes, std::atomic<std::int64_t>* looks, MpiJob** job, int* rank, int* size) {
  return guarded("MPI_Init_thread", [&] {
    if (message_bytes < 1 || message_bytes > INT_MAX) return answer("start", "messages have 1 to 2^31 - 1 bytes");
    auto made = std::make_unique<MpiJob>();
    made->message_bytes = message_bytes;
    made->looks = looks;
    const MpiAnswer result = open(*made);
    if (failed(result)) return result;
    *rank = made->rank;
    *size = made->size;
    *job = made.release();
    return result;
  });
}

constexpr int kTag = 0;   // one is enough: messages between two ranks do not overtake each other

MpiAnswer begin_exchange(MpiJob* job, const MpiSend* send, const MpiReceive* receive, MpiExchange** exchange) {
  return guarded("MPI_Isend", [&]() -> MpiAnswer {
    auto made = std::make_unique<MpiExchange>();
    made->job = job;
    // MPI writes the requests where they stand, so nothing may move or free them while messages are under way.
    std::size_t messages = 0;
    const auto count = [&](std::size_t bytes) { return (bytes + job->message_bytes - 1) / job->message_bytes; };
    for (int r = 0; r < job->size; ++r) messages += count(send[r].bytes) + count(receive[r].bytes);
    made->requests.reserve(messages);
    made->statuses.resize(messages);
    MpiExchange* const begun = *exchange = made.release();
    MpiAnswer result{.why = ""};
    for (int r = 0; r < job->size && !failed(result); ++r)
      result = in_messages(*job, "MPI_Irecv", receive[r].bytes, [&](std::size_t offset, int bytes) {
        return MPI_Irecv(static_cast<std::byte*>(receive[r].data) + offset, bytes, MPI_BYTE, r, kTag, job->ranks,
                         &begun->requests.emplace_back());
      });
    for (int i = 1; i < job->size && !failed(result); ++i) {
      const int r = (job->rank + i) % job->size;   // not all to rank 0 first
      result = in_messages(*job, "MPI_Isend", send[r].bytes, [&](std::size_t offset, int bytes) {
        return MPI_Isend(static_cast<const std::byte*>(send[r].data) + offset, bytes, MPI_BYTE, r, kTag, job->ranks,
                         &begun->requests.emplace_back());
      });
    }
    return result;
  });
}

/// Calls test(done) until it is done or fails. `idly`: for peers that may be late; MPI's own waiting would keep a core
/// busy, which another thread of this rank, or another rank, computes on.
template <class Test>
int wait_until_done(const MpiJob& job, bool idly, Test&& test) {
  constexpr std::chrono::microseconds kBusy{50}, kPause{20};
  const auto begun = std::chrono::steady_clock::now();
  for (int done = 0;;) {
    const int code = test(&done);
    if (code != MPI_SUCCESS || done != 0) return code;
    if (job.looks != nullptr) ++*job.looks;
    if (!idly || std::chrono::steady_clock::now() - begun < kBusy)
      std::this_thread::yield();
    else
      std::this_thread::sleep_for(kPause);
  }
}

int wait(const MpiJob& job, MPI_Request& request, bool idly) {
  return wait_until_done(job, idly, [&](int* done) { return MPI_Test(&request, done, MPI_STATUS_IGNORE); });
}

MpiAnswer wait(MpiExchange* exchange) {
  const std::unique_ptr<MpiExchange> owner(exchange);
  const int messages = static_cast<int>(exchange->requests.size());
  int code = wait_until_done(*exchange->job, false, [&](int* done) {
    return MPI_Testall(messages, exchange->requests.data(), done, exchange->statuses.data());
  });
  if (code == MPI_ERR_IN_STATUS) {
    const auto broke = [](const MPI_Status& status) {
      return status.MPI_ERROR != MPI_SUCCESS && status.MPI_ERROR != MPI_ERR_PENDING;
    };
    const auto first = std::find_if(exchange->statuses.begin(), exchange->statuses.end(), broke);
    if (first != exchange->statuses.end()) code = first->MPI_ERROR;
  }
  return answer("MPI_Testall", code);
}

MpiAnswer all_gather(MpiJob* job, const void* send, std::size_t bytes, void* receive) {
  if (bytes > INT_MAX) return answer("MPI_Iallgather", "it takes at most 2^31 - 1 bytes");
  const int count = static_cast<int>(bytes);
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = MPI_Iallgather(send, count, MPI_BYTE, receive, count, MPI_BYTE, job->ranks, &request);
  return answer("MPI_Iallgather", code == MPI_SUCCESS ? wait(*job, request, true) : code);
}

MpiAnswer broadcast(MpiJob* job, void* data, std::size_t bytes, int root) {
  return in_messages(*job, "MPI_Ibcast", bytes, [&](std::size_t offset, int count) {
    MPI_Request request = MPI_REQUEST_NULL;
    const int code =
        MPI_Ibcast(static_cast<std::byte*>(data) + offset, count, MPI_BYTE, root, job->ranks, &request);
    return code == MPI_SUCCESS ? wait(*job, request, false) : code;
  });
}

MpiAnswer finish(MpiJob* job) {
  const std::unique_ptr<MpiJob> owner(job);
  const MpiAnswer result = answer("MPI_Comm_free", MPI_Comm_free(&job->ranks));
  return failed(result) ? result : answer("MPI_Finalize", MPI_Finalize());
}

void abort(MpiJob*, int code) { MPI_Abort(MPI_COMM_WORLD, code); }

}  // namespace
}  // namespace sinter::train

extern "C" __attribute__((visibility("default"))) const sinter::train::MpiTable* sinter_mpi_table();
extern "C" const sinter::train::MpiTable* sinter_mpi_table() {
  namespace train = sinter::train;
  static constexpr train::MpiTable table = {.abi = train::kMpiAbi,
                                            .library = train::library,
                                            .start = train::start,
                                            .begin_exchange = train::begin_exchange,
                                            .wait = train::wait,
                                            .all_gather = train::all_gather,
                                            .broadcast = train::broadcast,
                                            .finish = train::finish,
                                            .abort = train::abort};
  return &table;
}
