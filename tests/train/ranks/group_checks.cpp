#include "tests/train/ranks/group_checks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/core/expect_error.h"

namespace sinter::train::testing {
namespace {

using sinter::testing::expect_error;
using sinter::testing::expect_usage_error;

constexpr ReduceKind kKinds[] = {ReduceKind::sum, ReduceKind::max};

std::vector<std::uint8_t> bytes(const Tensor& x) {
  const auto* begin = static_cast<const std::uint8_t*>(x.data());
  return {begin, begin + static_cast<std::size_t>(x.numel()) * size_of(x.dtype())};
}

template <class T>
std::vector<std::uint8_t> bytes(const std::vector<T>& x) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(x.data());
  return {begin, begin + x.size() * sizeof(T)};
}

/// A rank's elements. Their sizes differ, so that the order of a sum shows in its bits.
template <class T>
std::vector<T> elements(int rank, std::int64_t numel) {
  std::vector<T> x(static_cast<std::size_t>(numel));
  std::minstd_rand random(static_cast<unsigned>(rank + 1));
  const double unit = std::pow(10.0, rank % 5 - 9);
  for (T& value : x) {
    const auto drawn = static_cast<std::int64_t>(random()) - 1'073'741'823;
    if constexpr (std::is_floating_point_v<T>)
      value = static_cast<T>(static_cast<double>(drawn) * unit);
    else
      value = static_cast<T>(drawn);
  }
  return x;
}

/// The plain loop, without denormals. Integers wrap around.
template <class T>
std::vector<T> reduced(int ranks, std::int64_t numel, ReduceKind kind) {
  std::vector<T> result = elements<T>(0, numel);
  for (int r = 1; r < ranks; ++r) {
    const std::vector<T> x = elements<T>(r, numel);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (kind == ReduceKind::max)
        result[i] = std::max(result[i], x[i]);
      else if constexpr (std::is_same_v<T, std::int32_t>)
        result[i] = static_cast<T>(static_cast<std::uint32_t>(result[i]) + static_cast<std::uint32_t>(x[i]));
      else
        result[i] += x[i];
    }
  }
  return result;
}

/// The part of rank r, of n elements each.
template <class T>
std::vector<T> part(const std::vector<T>& x, int r, std::int64_t n) {
  return {x.begin() + r * n, x.begin() + (r + 1) * n};
}

template <class T>
void check_reductions(ProcessGroup& group, std::int64_t numel) {
  const int ranks = group.size(), rank = group.rank();
  for (const ReduceKind kind : kKinds) {
    const Tensor x = Tensor::from(elements<T>(rank, numel), {numel});
    group.all_reduce(x, kind);
    EXPECT_EQ(bytes(x), bytes(reduced<T>(ranks, numel, kind))) << numel;

    const std::vector<T> whole = elements<T>(rank, numel * ranks);
    const Tensor flat = Tensor::from(whole, {numel * ranks}), shard = Tensor::full({numel}, 3, {flat.dtype()});
    group.reduce_scatter(flat, shard, kind);
    EXPECT_EQ(bytes(shard), bytes(part(reduced<T>(ranks, numel * ranks, kind), rank, numel))) << numel;
    EXPECT_EQ(bytes(flat), bytes(whole)) << numel;
  }
}

void check_gather(ProcessGroup& group, std::int64_t numel, Dtype dtype) {
  const int ranks = group.size(), rank = group.rank();
  const Tensor expected = Tensor::empty({numel * ranks}, {dtype});
  for (int r = 0; r < ranks; ++r) {
    Tensor part_of_r = expected.narrow(0, r * numel, numel);
    part_of_r.copy_(Tensor::full({numel}, r + 1, {dtype}));
  }
  const Tensor shard = Tensor::full({numel}, rank + 1, {dtype}), flat = Tensor::full({numel * ranks}, 9, {dtype});
  group.all_gather(shard, flat);
  EXPECT_EQ(bytes(flat), bytes(expected)) << numel;
  const Tensor in_place = Tensor::full({numel * ranks}, 9, {dtype});
  Tensor own = in_place.narrow(0, rank * numel, numel);
  own.copy_(shard);
  group.all_gather(own, in_place);
  EXPECT_EQ(bytes(in_place), bytes(expected)) << numel;
}

void check_broadcast(ProcessGroup& group, std::int64_t numel, Dtype dtype) {
  for (int root = 0; root < group.size(); ++root) {
    const Tensor x = Tensor::full({numel}, group.rank() == root ? root + 1 : 9, {dtype});
    group.broadcast(x, root);
    EXPECT_EQ(bytes(x), bytes(Tensor::full({numel}, root + 1, {dtype}))) << numel << " from " << root;
  }
}

// --- The checks ---------------------------------------------------------------------------------------------------

/// Empty, smaller than the ranks, divisible by them and not, and more than a block of reduce_ranks().
constexpr std::int64_t kNumels[] = {0, 1, 2, 3, 4, 5, 7, 12, 33, 1000, 4099};

void reductions_equal_a_loop(ProcessGroup& group) {
  for (const std::int64_t numel : kNumels) {
    check_reductions<float>(group, numel);
    check_reductions<double>(group, numel);
    check_reductions<std::int64_t>(group, numel);
    check_reductions<std::int32_t>(group, numel);
  }
}

void gathers_and_broadcasts_of_any_dtype(ProcessGroup& group) {
  for (const std::int64_t numel : kNumels)
    for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32, Dtype::u8}) {
      check_gather(group, numel, dtype);
      check_broadcast(group, numel, dtype);
    }
}

void max_lets_nan_win(ProcessGroup& group) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const int rank = group.rank(), last = group.size() - 1;
  const Tensor x = Tensor::from<float>({-1.0f * static_cast<float>(rank), rank == 0 ? nan : 1.0f,
                                        rank == last ? nan : inf, rank == last ? -inf : -2.0f, nan});
  group.all_reduce(x, ReduceKind::max);
  const std::vector<float> y = x.to_vector<float>();
  EXPECT_EQ(y[0], 0);
  EXPECT_TRUE(std::isnan(y[1]) && std::isnan(y[2]) && std::isnan(y[4]));
  EXPECT_EQ(y[3], last == 0 ? -inf : -2.0f);
  const Tensor flag = Tensor::from<std::int64_t>({rank == last ? 1 : 0});
  group.all_reduce(flag, ReduceKind::max);
  EXPECT_EQ(flag.to_vector<std::int64_t>(), std::vector<std::int64_t>{1});
}

/// Numbers of every size down to the smallest denormal, some of which cancel those of the rank before.
template <class T>
Tensor all_sizes(int rank, std::int64_t numel) {
  using Limits = std::numeric_limits<T>;
  std::mt19937_64 random(7), own(static_cast<unsigned>(rank));
  std::vector<T> x;
  for (std::int64_t i = 0; i < numel; ++i) {
    const int any = std::uniform_int_distribution(Limits::min_exponent - Limits::digits, 20)(random);
    const int exponent = i % 3 == 0 ? any : Limits::min_exponent - static_cast<int>(i % 4);
    const auto shared = static_cast<T>(std::uniform_real_distribution(0.5, 1.0)(random));
    const auto drawn = static_cast<T>(std::uniform_real_distribution(-1.0, 1.0)(own));
    const bool cancels = i % 2 == 0;
    x.push_back(std::ldexp(cancels ? (rank % 2 == 0 ? shared : -shared) + drawn / 64 : drawn, exponent));
  }
  return Tensor::from(x, {numel});
}

template <class T>
void check_local_sim(ProcessGroup& group, std::int64_t numel) {
  const int ranks = group.size(), rank = group.rank();
  const std::vector<T> mine = all_sizes<T>(rank, numel).template to_vector<T>();
  ASSERT_TRUE(std::any_of(mine.begin(), mine.end(), [](T x) { return std::fpclassify(x) == FP_SUBNORMAL; }));
  for (const ReduceKind kind : kKinds) {
    std::vector<std::uint8_t> summed, scattered;
    LocalSim::run(ranks, [&](ProcessGroup& local) {
      const Tensor x = all_sizes<T>(local.rank(), numel * ranks), shard = Tensor::zeros({numel}, {x.dtype()});
      local.reduce_scatter(x, shard, kind);
      local.all_reduce(x, kind);
      if (local.rank() != rank) return;
      summed = bytes(x);
      scattered = bytes(shard);
    });
    const Tensor x = all_sizes<T>(rank, numel * ranks), shard = Tensor::zeros({numel}, {x.dtype()});
    group.reduce_scatter(x, shard, kind);
    group.all_reduce(x, kind);
    EXPECT_TRUE(bytes(x) == summed && bytes(shard) == scattered) << numel;
  }
}

void bits_equal_those_of_local_sim(ProcessGroup& group) {
  for (const std::int64_t numel : {33, 1001, 4007}) {
    check_local_sim<float>(group, numel);
    check_local_sim<double>(group, numel);
  }
}

void host_sums_in_rank_order(ProcessGroup& group) {
  const int rank = group.rank();
  const double large = 1e16;
  const double values[] = {rank == 0 ? large : (rank == 1 ? 1.0 : (rank == 2 ? -large : 0.0)), 0.25 * rank};
  // (1e16 + 1) rounds to 1e16: another order of three ranks gives 1.
  const int ranks = group.size();
  const double first = ranks < 3 ? large : 0.0;
  EXPECT_EQ(group.all_reduce_sums(values), (std::vector<double>{first, 0.125 * ranks * (ranks - 1)}));
  EXPECT_TRUE(group.all_reduce_sums({}).empty());
}

void nobody_passes_the_barrier_early(ProcessGroup& group) {
  using Clock = std::chrono::steady_clock;   // one for all processes of a machine
  for (int slow = 0; slow < group.size(); ++slow) {
    if (group.rank() == slow) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const std::int64_t came = Clock::now().time_since_epoch().count();
    group.barrier();
    const std::int64_t passed = Clock::now().time_since_epoch().count();
    const Tensor last = Tensor::from<std::int64_t>({came});
    group.all_reduce(last, ReduceKind::max);
    EXPECT_GE(passed, last.to_vector<std::int64_t>()[0]);
  }
}

void many_rounds_of_mixed_operations(ProcessGroup& group) {
  const int ranks = group.size();
  for (int round = 0; round < 200; ++round) {
    const std::int64_t n = round % 11;
    const Tensor shard = Tensor::full({n}, round + group.rank()), whole = Tensor::full({n * ranks}, -1);
    group.all_gather(shard, whole);
    group.all_reduce(whole);
    group.reduce_scatter(whole, shard);
    ASSERT_EQ(bytes(shard), bytes(Tensor::full({n}, 1.0 * (round + group.rank()) * ranks * ranks)));
    group.broadcast(shard, round % ranks);
    group.all_reduce(shard, ReduceKind::max);
    ASSERT_EQ(bytes(shard), bytes(Tensor::full({n}, 1.0 * (round + round % ranks) * ranks * ranks)));
    if (round % 7 == 0) group.barrier();
  }
}

void asynchronous_operations_keep_their_order(ProcessGroup& group) {
  const int ranks = group.size();
  for (int round = 0; round < 50; ++round) {
    std::vector<Tensor> tensors;
    std::vector<std::unique_ptr<Work>> under_way;
    for (std::int64_t numel : {0, 7, 1000, 33}) {
      tensors.push_back(Tensor::full({numel}, group.rank() + round));
      under_way.push_back(group.all_reduce_async(tensors.back()));
    }
    if (round % 3 == 0) group.barrier();   // behind all of them
    if (round % 2 == 0) std::reverse(under_way.begin(), under_way.end());
    for (const std::unique_ptr<Work>& work : under_way) work->wait();
    const double sum = 0.5 * ranks * (ranks - 1) + static_cast<double>(ranks) * round;
    for (const Tensor& x : tensors) ASSERT_EQ(bytes(x), bytes(Tensor::full(x.shape(), sum)));
  }
}

/// Calls `usual` on all ranks but the last, which calls `other`.
void disagree(ProcessGroup& group, const std::string& usual_name, const std::function<void()>& usual,
              const std::string& other_name, const std::function<void()>& other) {
  const int last = group.size() - 1;
  const std::string says =
      "the ranks disagree: rank 0 calls " + usual_name + ", rank " + std::to_string(last) + " calls " + other_name;
  EXPECT_EQ(sinter::testing::refusal(group.rank() == last ? other : usual), says);
  // The group goes on.
  const double one[] = {1};
  EXPECT_EQ(group.all_reduce_sums(one), std::vector<double>{1.0 * group.size()});
}

void mismatches_name_the_ranks(ProcessGroup& group) {
  const std::int64_t ranks = group.size();
  if (ranks < 2) return;
  const Tensor four = Tensor::ones({4}), five = Tensor::ones({5}), wide = Tensor::ones({4}, {Dtype::f64});
  const auto reduce = [&](const Tensor& x, ReduceKind kind = ReduceKind::sum) {
    return [&group, x, kind] { group.all_reduce(x, kind); };
  };
  const std::string four_of = "all_reduce (sum) of 4 elements of f32";
  disagree(group, four_of, reduce(four), "all_reduce (sum) of 5 elements of f32", reduce(five));
  disagree(group, "all_reduce (sum) of 5 elements of f32", reduce(five), four_of, reduce(four));
  disagree(group, four_of, reduce(four), "all_reduce (sum) of 4 elements of f64", reduce(wide));
  disagree(group, four_of, reduce(four), "all_reduce (max) of 4 elements of f32", reduce(four, ReduceKind::max));
  disagree(group, four_of, reduce(four), "broadcast (root 0) of 4 elements of f32", [&] { group.broadcast(four); });
  disagree(group, "broadcast (root 0) of 4 elements of f32", [&] { group.broadcast(four); },
           "broadcast (root 1) of 4 elements of f32", [&] { group.broadcast(four, 1); });
  disagree(group, "barrier", [&] { group.barrier(); }, four_of, reduce(four));
  const auto text = [&](std::int64_t n) { return " of " + std::to_string(n) + " elements of f32"; };
  const auto scatter = [&](std::int64_t n) {
    return [&group, ranks, n] { group.reduce_scatter(Tensor::ones({n * ranks}), Tensor::ones({n})); };
  };
  disagree(group, "reduce_scatter (sum)" + text(2 * ranks), scatter(2), "reduce_scatter (sum)" + text(ranks),
           scatter(1));
  const auto gather = [&](std::int64_t n) {
    return [&group, ranks, n] { group.all_gather(Tensor::ones({n}), Tensor::ones({n * ranks})); };
  };
  disagree(group, "all_gather" + text(4), gather(4), "all_gather" + text(0), gather(0));
  disagree(group, "all_gather" + text(4), gather(4), four_of, reduce(four));
  for (const Tensor& x : {four, five, wide}) EXPECT_EQ(bytes(x), bytes(Tensor::ones(x.shape(), {x.dtype()})));
}

void what_one_rank_refuses_reaches_nobody(ProcessGroup& group) {
  if (group.rank() == 0) {
    expect_error([&] { group.all_reduce(Tensor::zeros({2}, {Dtype::f16})); }, ErrorCode::unsupported, "f16");
    expect_usage_error([&] { group.broadcast(Tensor::zeros({2}), group.size()); }, "broadcast from rank");
  }
  group.barrier();
}

constexpr GroupCheck kChecks[] = {
    {"reductions_equal_a_loop", reductions_equal_a_loop},
    {"gathers_and_broadcasts_of_any_dtype", gathers_and_broadcasts_of_any_dtype},
    {"max_lets_nan_win", max_lets_nan_win},
    {"bits_equal_those_of_local_sim", bits_equal_those_of_local_sim},
    {"host_sums_in_rank_order", host_sums_in_rank_order},
    {"nobody_passes_the_barrier_early", nobody_passes_the_barrier_early},
    {"many_rounds_of_mixed_operations", many_rounds_of_mixed_operations},
    {"asynchronous_operations_keep_their_order", asynchronous_operations_keep_their_order},
    {"mismatches_name_the_ranks", mismatches_name_the_ranks},
    {"what_one_rank_refuses_reaches_nobody", what_one_rank_refuses_reaches_nobody},
};

}  // namespace

std::span<const GroupCheck> group_checks() { return kChecks; }

void check_numel(ProcessGroup& group, std::int64_t numel) {
  check_reductions<float>(group, numel);
  check_gather(group, numel, Dtype::f32);
  check_broadcast(group, numel, Dtype::f32);
}

void check_early_end(ProcessGroup& group, void (*end)(ProcessGroup& group)) {
  const int last = group.size() - 1;
  const auto says = [&](int waiting) {
    return "rank " + std::to_string(last) + " returned while rank " + std::to_string(waiting) +
           " waits for it in all_reduce of 8 elements; every rank must call the same operations";
  };
  if (group.rank() == last) {
    EXPECT_EQ(sinter::testing::refusal([&] { end(group); }), says(0));
    return;
  }
  for (int again = 0; again < 2; ++again)
    EXPECT_EQ(sinter::testing::refusal([&] { group.all_reduce(Tensor::zeros({8})); }), says(group.rank()));
  end(group);
}

}  // namespace sinter::train::testing
