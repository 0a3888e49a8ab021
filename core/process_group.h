// Ranks that work on one model together, and what they say to each other.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace sinter {

enum class ReduceKind : std::uint8_t { sum, max };

/// One rank's view of a group. Every rank calls the same collectives in the same order with tensors of the same length and
/// dtype (f32, f64, i64 or i32), contiguous and of rank 1: ranges of FlatParameters' buffers. A difference between ranks is
/// a usage error on every rank. Sums are taken in ascending order of ranks, so that they equal, bit for bit, what one
/// process gets that adds the ranks' parts in that order.
///
/// Calls return when the result is there. A backend that overlaps them with computation offers further calls that return
/// an event to wait for; these keep their meaning.
class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;

  /// Every rank's `range` becomes the sum (or maximum) of all.
  virtual void all_reduce(const Tensor& range, ReduceKind kind = ReduceKind::sum) = 0;
  /// output [n] = elements [rank * n, (rank + 1) * n) of the sum of all ranks' input [size * n].
  virtual void reduce_scatter(const Tensor& input, const Tensor& output) = 0;
  /// output [size * n] = the inputs [n] of all ranks, in their order.
  virtual void all_gather(const Tensor& input, const Tensor& output) = 0;
  /// Every rank's `range` becomes that of `root`.
  virtual void broadcast(const Tensor& range, int root) = 0;
  /// Returns when all ranks have called it.
  virtual void barrier() = 0;

  /// Sums of a few host numbers: losses and metrics travel as (sum, count) pairs, never as means.
  std::vector<double> all_reduce_sums(std::span<const double> values);
};

/// The group of a process that works alone: every collective is the identity.
class SelfGroup final : public ProcessGroup {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce(const Tensor& range, ReduceKind kind) override;
  void reduce_scatter(const Tensor& input, const Tensor& output) override;
  void all_gather(const Tensor& input, const Tensor& output) override;
  void broadcast(const Tensor& range, int root) override;
  void barrier() override {}
};

/// R ranks as threads of one process, for tests.
class LocalSim {
 public:
  /// Calls fn(group) once a rank, each on its own thread, and returns when all have ended. When a rank throws, the others
  /// leave their next (or current) collective with an error, and the exception that came first is thrown here.
  static void run(int ranks, const std::function<void(ProcessGroup&)>& fn);
};

}  // namespace sinter
