// Ranks that train one model together, and the collective operations between them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/collective_trace.h"
#include "core/device.h"
#include "core/tensor.h"

namespace sinter {

enum class ReduceKind : std::uint8_t {
  sum,
  max,   ///< NaN wins over every number, so that a flag of one rank cannot get lost
};

class CollectiveThread;
class StepGraph;

/// An operation that goes on while the caller computes. The group must outlive it.
class Work {
 public:
  /// Waits as wait() does; what that would throw is lost.
  virtual ~Work() = default;
  /// Returns when the result is in place, and throws what the operation threw. Again does nothing. By the thread that
  /// began the operation.
  virtual void wait() = 0;
};

/// R ranks, numbered from 0. Every rank calls the same operations in the same order with matching sizes and dtypes; a
/// mismatch is Error(usage) with the ranks, sizes and dtypes in it, on every rank. One thread calls at a time.
///
/// When an operation returns, the result is in place and the operands may be reused. Those named ..._async return at
/// once and give that promise when Work::wait() has returned, with the operands untouched until then; operations are
/// carried out in the order of their calls, whatever form these have.
///
/// Tensors are contiguous and of rank 1, as a rule ranges of flat buffers (core/flat_parameters.h):
/// all_reduce(gradients.narrow(0, begin, length)) for one bucket. Empty ones are allowed, and take part like others.
/// Those that lie elsewhere than on device() travel by a copy there, which is made when the operation is called.
/// Reductions take f32, f64, i64 and i32; the others any dtype. Sums are added in ascending order of the ranks,
/// ((x_0 + x_1) + x_2) + ..., in the tensor's dtype, with denormals flushed as in kernels: repeatable, and equal bit
/// for bit to one process that accumulates the ranks' parts one after the other. Writes raise the storage's version.
class ProcessGroup {
 public:
  ProcessGroup();
  virtual ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// Whose memory the ranks exchange without a copy.
  virtual Device device() const { return Device::cpu(); }
  /// True where operations on tensors of device() may be a part of a captured step (core/runtime/step_arena.h), which
  /// every rank then captures in the same call, and launches as often as the others.
  virtual bool can_be_captured() const { return false; }
  /// Launches a captured step with operations in it, of which the group would not know otherwise: where they do not
  /// end, it finds that out as of others.
  virtual void launch(const StepGraph& step);

  /// Every element becomes the sum (or maximum) over the ranks.
  void all_reduce(const Tensor& flat, ReduceKind kind = ReduceKind::sum);
  [[nodiscard]] std::unique_ptr<Work> all_reduce_async(const Tensor& flat, ReduceKind kind = ReduceKind::sum);
  /// The n elements of rank r's `shard` become elements [r n, (r + 1) n) of the reduced `flat` (size() n elements).
  /// `flat` keeps its values, so `shard` lies elsewhere.
  void reduce_scatter(const Tensor& flat, const Tensor& shard, ReduceKind kind = ReduceKind::sum);
  /// Elements [r n, (r + 1) n) of `flat` (size() n elements) become the n elements of rank r's `shard`, which may be
  /// that very range of `flat`.
  void all_gather(const Tensor& shard, const Tensor& flat);
  /// Every rank's elements become those of `root`.
  void broadcast(const Tensor& flat, int root = 0);
  /// Returns when every rank has called it.
  void barrier();
  /// Sums of a few host numbers, added in ascending order of the ranks: losses and metrics travel as (sum, count)
  /// pairs, never as means.
  [[nodiscard]] std::vector<double> all_reduce_sums(std::span<const double> values);

 protected:
  friend class LocalSim;
  enum class Operation : std::uint8_t { barrier, all_reduce, reduce_scatter, all_gather, broadcast };
  static const char* name(Operation operation);

  /// One rank's call, already checked against what a single rank can see. Input and output are contiguous memory of
  /// this rank, the same for operations in place.
  struct Collective {
    Operation operation = Operation::barrier;
    Dtype dtype = Dtype::u8;
    const void* input = nullptr;
    std::int64_t input_numel = 0;
    void* output = nullptr;
    std::int64_t output_numel = 0;
    const Storage* output_storage = nullptr;   ///< null for host numbers
    ReduceKind kind = ReduceKind::sum;
    int root = 0;
    CollectiveTrace::Note note{};
  };
  /// "all_reduce (sum) of 8 elements of f32".
  static std::string describe(const Collective& call);
  /// What every rank throws as Error(usage) when the calls of the ranks, in their order, do not fit together; "" when
  /// they do. Memory does not count.
  static std::string disagreement(std::span<const Collective> calls);
  /// What `rank` throws as Error(usage) in `call` when `peer` has ended and will never call it.
  static std::string left_early(int peer, int rank, const Collective& call);

  /// Carries it out, and returns when the result is in place. Operands lie on device(), but host numbers (without an
  /// output_storage) in host memory.
  virtual void run(const Collective& call) = 0;
  /// Begins it behind all that was begun before. As it stands here, a thread of the group's own calls run().
  virtual std::unique_ptr<Work> begin(const Collective& call);

 private:
  static Collective all_reduce_call(const Tensor& flat, ReduceKind kind);
  static Collective noted(Collective call);
  void run_in_order(const Collective& call);

  std::unique_ptr<CollectiveThread> thread_;   // made by the first begin()
};

/// The group of a process that trains alone: one rank, every operation is the identity.
class SelfGroup final : public ProcessGroup {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

 private:
  void run(const Collective& call) override;
};

/// R ranks as threads of this process, for tests: the code of a rank cannot tell the difference.
///
/// Scopes such as NoGradGuard, ModuleScope and StepScope belong to a thread, so a rank inherits none from the caller.
/// All ranks share the one ThreadPool, whose regions they enter in turn. A tensor that was made outside of fn is one
/// tensor for all ranks: to write it, or parts of its storage, in an operation is Error(usage) that names two ranks.
class LocalSim {
 public:
  /// Calls fn once for each rank, and returns when all have ended. When ranks throw, the others end at their next
  /// operation, and the exception of the lowest rank that threw by itself is thrown here. A rank that returns while
  /// others wait for it in an operation is Error(usage) that names both. R must be at least 1.
  static void run(int ranks, const std::function<void(ProcessGroup&)>& fn);

 private:
  class Meeting;
  class Rank;
};

}  // namespace sinter
