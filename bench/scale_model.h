// How long a training step of several ranks takes, from parts that were measured: what several ranks wait for that one
// alone does not. Pure arithmetic; seconds and bytes everywhere.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sinter::bench {

/// What nccl-tests multiply algbw = S / t by, so that bandwidths of operations and numbers of ranks R can be compared
/// with that of a link: 2 (R - 1) / R for all_reduce, (R - 1) / R for reduce_scatter and all_gather, 1 for broadcast.
/// S is what every rank holds whole: the tensor of all_reduce and broadcast, the input of reduce_scatter, the output
/// of all_gather.
double bus_factor(const std::string& operation, int ranks);

/// t(n) = latency + n * per_byte.
struct Line {
  double latency = 0, per_byte = 0;
};
/// The line through (bytes, seconds) whose relative errors have the least squares, so that short and long operations
/// count alike; neither part is negative. Of at least one point, of more than 0 seconds each.
Line fit_line(const std::vector<std::pair<double, double>>& points);

/// What messages cost.
struct Link {
  double hop = 0;        ///< seconds before the first byte
  double per_byte = 0;   ///< seconds; the inverse of a bandwidth
};

/// Nodes of equally many ranks.
struct Network {
  Link inside;                 ///< between ranks of a node; of each rank's own
  Link between;                ///< between nodes; per_byte is of a node's link, which its ranks share
  int ranks_per_node = 1;
  /// True: every rank exchanges with every other itself, as MpiGroup does, so the ranks of a node send the same sums
  /// over its link, each on its own. False: sums are formed inside of a node first, as NCCL does.
  bool direct = false;
};

/// The link inside of a node from a line that was fitted to all_reduces of `ranks` (2 or more) ranks in one node:
/// all_reduce_seconds() gives that line again.
Link link_of(const Line& all_reduce, int ranks);

/// Seconds of an all_reduce of n bytes over R ranks; 0 for R = 1. With L ranks on each of N nodes
///
///   one node    2 (R - 1) hop + 2 (R - 1) / R n per_byte
///   direct      2 (L - 1) hop + 2 (L - 1) / R n per_byte                 to the ranks of its node
///               + 2 (R - L) hop' + 2 L (R - L) / R n per_byte'           to the others; the node's ranks together
///   otherwise   2 (L - 1) hop + 2 (L - 1) / L n per_byte                 sums in the node, and their way back
///               + 2 (N - 1) hop' + 2 (N - 1) / N n per_byte'             sums of all nodes
///
/// where ' is between nodes; nothing of this overlaps. Where ranks are no multiple of L, as if all were in one node.
double all_reduce_seconds(const Network& network, int ranks, double bytes);

/// A range of gradients that travels at once.
struct Bucket {
  double ready = 0;   ///< since backward began: when it has completed these gradients and those of all buckets before
  double bytes = 0;
};

/// What one rank computes in a step, and what it then asks of the others.
struct StepParts {
  double forward = 0, backward = 0;    ///< backward without waiting for anything
  double update = 0;                   ///< gradient norm and optimizer
  std::vector<Bucket> buckets{};       ///< in the order in which they travel
  std::vector<double> small{};         ///< bytes of the all_reduces between backward and update that are waited for

  double compute() const { return forward + backward + update; }
};

struct Prediction {
  double step = 0;            ///< seconds
  double communication = 0;   ///< of all operations of the step, one behind the other
  double exposed = 0;         ///< of these: what the step is longer for
  /// Share of the communication that backward hides; 0 where there is none.
  double hidden() const { return communication > 0 ? 1 - exposed / communication : 0; }
};
/// Buckets go one behind the other: each begins when it is ready and the one before has ended. The update waits for
/// the last of them and then for the small operations.
Prediction predict(const StepParts& parts, const Network& network, int ranks);

/// The same step with all gradients sent at once behind backward, as with ddp_bucket_cap_mb 0.
StepParts after_backward(StepParts parts);

/// Share of communication that is hidden, from step times alone: (after - overlapped) / (after - compute). Negative
/// where overlapping costs more than it hides; 0 where steps that communicate are no longer than those that do not.
double hidden_by_times(double compute, double after, double overlapped);

}  // namespace sinter::bench
