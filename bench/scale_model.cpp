#include "bench/scale_model.h"

#include <algorithm>

#include "core/error.h"

namespace sinter::bench {

double bus_factor(const std::string& operation, int ranks) {
  const double share = static_cast<double>(ranks - 1) / ranks;
  if (operation == "all_reduce") return 2 * share;
  if (operation == "reduce_scatter" || operation == "all_gather") return share;
  if (operation == "broadcast") return 1;
  fail(ErrorCode::internal, "\"", operation, "\" has no bus bandwidth");
}

Line fit_line(const std::vector<std::pair<double, double>>& points) {
  // Least squares of (latency + n per_byte) / t - 1: with u = 1 / t and v = n / t, of latency u + per_byte v - 1.
  double uu = 0, uv = 0, vv = 0, u1 = 0, v1 = 0;
  for (const auto& [bytes, seconds] : points) {
    const double u = 1 / seconds, v = bytes / seconds;
    uu += u * u, uv += u * v, vv += v * v, u1 += u, v1 += v;
  }
  const double determinant = uu * vv - uv * uv;
  Line line;
  if (determinant > 1e-12 * uu * vv)   // else all points have one size
    line = {(u1 * vv - v1 * uv) / determinant, (v1 * uu - u1 * uv) / determinant};
  else
    line = {u1 / uu, 0};
  if (line.per_byte < 0) line = {u1 / uu, 0};
  if (line.latency < 0) line = {0, v1 / vv};
  return line;
}

Link link_of(const Line& all_reduce, int ranks) {
  return {all_reduce.latency / (2 * (ranks - 1)), all_reduce.per_byte / bus_factor("all_reduce", ranks)};
}

double all_reduce_seconds(const Network& network, int ranks, double bytes) {
  const Link &in = network.inside, &out = network.between;
  const double r = ranks;
  const bool nodes = ranks > network.ranks_per_node && ranks % network.ranks_per_node == 0;
  if (!nodes) return 2 * (r - 1) * in.hop + 2 * (r - 1) / r * bytes * in.per_byte;
  const double l = network.ranks_per_node, n = r / l;
  if (network.direct)
    return 2 * (l - 1) * in.hop + 2 * (l - 1) / r * bytes * in.per_byte + 2 * (r - l) * out.hop +
           2 * l * (r - l) / r * bytes * out.per_byte;
  return 2 * (l - 1) * in.hop + 2 * (l - 1) / l * bytes * in.per_byte + 2 * (n - 1) * out.hop +
         2 * (n - 1) / n * bytes * out.per_byte;
}

Prediction predict(const StepParts& parts, const Network& network, int ranks) {
  Prediction prediction;
  double end = 0;   // of the buckets so far, since backward began
  for (const Bucket& bucket : parts.buckets) {
    const double seconds = all_reduce_seconds(network, ranks, bucket.bytes);
    prediction.communication += seconds;
    end = std::max(end, bucket.ready) + seconds;
  }
  prediction.exposed = std::max(0.0, end - parts.backward);
  for (const double bytes : parts.small) {
    const double seconds = all_reduce_seconds(network, ranks, bytes);
    prediction.communication += seconds;
    prediction.exposed += seconds;
  }
  prediction.step = parts.compute() + prediction.exposed;
  return prediction;
}

StepParts after_backward(StepParts parts) {
  Bucket all{.ready = parts.backward};
  for (const Bucket& bucket : parts.buckets) all.bytes += bucket.bytes;
  parts.buckets = {all};
  return parts;
}

double hidden_by_times(double compute, double after, double overlapped) {
  return after > compute ? (after - overlapped) / (after - compute) : 0;
}

}  // namespace sinter::bench
