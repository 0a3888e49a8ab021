// Which operations between ranks a piece of work asks for, and when each was under way.
//
//   CollectiveTrace trace;
//   step();                                       // whatever the calling thread asks of any ProcessGroup
//   for (const TracedCollective& operation : trace.operations()) ...
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace sinter {

/// Times in seconds since the trace began; negative: not yet, or known to the device alone (`begun` and `ended` of
/// groups between GPUs).
struct TracedCollective {
  const char* name = "";     ///< "all_reduce"
  std::int64_t bytes = 0;    ///< of this rank's input
  double called = -1;        ///< the caller asked for it
  double begun = -1;         ///< it was this rank's turn; peers may be late
  double ended = -1;         ///< its result was in place
  double awaited = -1;       ///< the caller stood still for it; where it was not asynchronous, when it was called
};

/// Seconds of all operations together, and those of them during which the caller went on: communication that was hidden
/// behind computation.
struct CollectiveSeconds {
  double under_way = 0, hidden = 0;
};
CollectiveSeconds seconds_of(const std::vector<TracedCollective>& operations);

/// Notes every operation that the calling thread asks for, from construction to destruction. Traces of a thread may be
/// nested; the inner one notes.
class CollectiveTrace {
 public:
  CollectiveTrace();
  ~CollectiveTrace();
  CollectiveTrace(const CollectiveTrace&) = delete;
  CollectiveTrace& operator=(const CollectiveTrace&) = delete;

  /// In the order of the calls, as they stand: some may still be under way.
  std::vector<TracedCollective> operations() const;

  /// One operation on its way through ProcessGroup; does nothing where the calling thread traces nothing.
  class Note {
   public:
    Note() = default;
    Note(const char* name, std::int64_t bytes);
    void begun() const;
    void ended() const;
    void awaited() const;

   private:
    friend class CollectiveTrace;
    struct Operation;
    std::shared_ptr<Operation> operation_;
  };

 private:
  CollectiveTrace* before_;
  double origin_;   // of its times, in those of the steady clock
  std::vector<std::shared_ptr<Note::Operation>> operations_;
};

}  // namespace sinter
