#include "bench/collective_times.h"

#include <algorithm>
#include <functional>

#include "bench/measure.h"
#include "core/runtime/runtime.h"

namespace sinter::bench {
namespace {

constexpr std::int64_t kElement = 4;   // bytes of an f32
constexpr int kWarmUps = 2;

/// Every repetition begins when all ranks are there.
Spread timed(ProcessGroup& ranks, Device device, std::int64_t repetitions, const std::function<void()>& operation) {
  std::vector<double> seconds;
  for (std::int64_t i = -kWarmUps; i < repetitions; ++i) {
    ranks.barrier();
    const double begin = seconds_now();
    operation();
    Runtime::instance().synchronize(device);
    if (i >= 0) seconds.push_back(seconds_now() - begin);
  }
  return spread_of(slowest(ranks, seconds));
}

}  // namespace

std::vector<double> slowest(ProcessGroup& ranks, const std::vector<double>& seconds) {
  const Tensor most = Tensor::from(seconds, {static_cast<std::int64_t>(seconds.size())});
  ranks.all_reduce(most, ReduceKind::max);
  return most.to_vector<double>();
}

std::vector<CollectiveTime> time_collectives(ProcessGroup& ranks, Device device, std::int64_t least, std::int64_t most,
                                             std::int64_t repetitions) {
  struct Operation {
    const char* name;
    std::function<void(const Tensor& whole, const Tensor& part)> run;
  };
  const Operation operations[] = {
      {"all_reduce", [&](const Tensor& whole, const Tensor&) { ranks.all_reduce(whole); }},
      {"reduce_scatter", [&](const Tensor& whole, const Tensor& part) { ranks.reduce_scatter(whole, part); }},
      {"all_gather", [&](const Tensor& whole, const Tensor& part) {
         ranks.all_gather(whole.narrow(0, ranks.rank() * part.numel(), part.numel()), whole);
       }},
      {"broadcast", [&](const Tensor& whole, const Tensor&) { ranks.broadcast(whole); }},
  };
  std::vector<CollectiveTime> times;
  for (const Operation& operation : operations)
    for (std::int64_t bytes = least; bytes <= most; bytes *= 4) {
      const std::int64_t shard = std::max<std::int64_t>(1, bytes / kElement / ranks.size());
      const Tensor whole = Tensor::zeros({shard * ranks.size()}, {.device = device});
      const Tensor part = Tensor::zeros({shard}, {.device = device});
      times.push_back({operation.name, whole.numel() * kElement,
                       timed(ranks, device, repetitions, [&] { operation.run(whole, part); })});
    }
  return times;
}

}  // namespace sinter::bench
