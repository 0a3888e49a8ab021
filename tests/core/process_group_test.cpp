// Collectives between the ranks of one process: sums equal to sequential accumulation, and failures that never hang.
#include "core/process_group.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <stdexcept>

#include "core/autograd/mode.h"
#include "core/flat_parameters.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "tests/core/expect_error.h"

namespace sinter {
namespace {

using testing::expect_error;
using testing::expect_usage_error;

Tensor part(int rank, std::int64_t n, Dtype dtype) {
  if (dtype == Dtype::i64) {
    std::vector<std::int64_t> numbers;
    for (std::int64_t i = 0; i < n; ++i) numbers.push_back((i * 7919 + rank * 104729) % 1000 - 500);
    return Tensor::from(numbers, {n});
  }
  Tensor x = Tensor::empty({n}, {dtype});
  // Sizes differ between ranks, so that the order of a sum shows in its bits.
  normal_(x, 0, std::pow(10.0, rank), 5, static_cast<std::uint32_t>(rank));
  return x;
}

std::vector<std::uint8_t> bytes(const Tensor& x) {
  const auto* begin = static_cast<const std::uint8_t*>(x.data());
  return {begin, begin + static_cast<std::size_t>(x.numel()) * size_of(x.dtype())};
}

Tensor sequential_sum(int ranks, std::int64_t n, Dtype dtype) {
  Tensor sum = part(0, n, dtype);
  for (int r = 1; r < ranks; ++r) sum.add_(part(r, n, dtype));
  return sum;
}

TEST(ProcessGroup, SumsEqualSequentialAccumulation) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::i64})
    for (const int ranks : {1, 2, 3, 5})
      for (const std::int64_t n : {0, 1, 2, 7, 33, 1000, 10007}) {
        const Tensor expected = sequential_sum(ranks, n, dtype);
        LocalSim::run(ranks, [&](ProcessGroup& group) {
          Tensor x = part(group.rank(), n, dtype);
          group.all_reduce(x);
          EXPECT_EQ(bytes(x), bytes(expected)) << name(dtype) << " " << ranks << " ranks, " << n;
        });
      }
}

TEST(ProcessGroup, DenormalsAreFlushedAsInKernels) {
  const float tiny = 1e-40f;
  LocalSim::run(2, [&](ProcessGroup& group) {
    Tensor x = Tensor::from<float>({tiny, 1.0f});
    group.all_reduce(x);
    EXPECT_EQ(x.to_vector<float>()[0], 0.0f);
    EXPECT_EQ(x.to_vector<float>()[1], 2.0f);
  });
}

TEST(ProcessGroup, GradientsEqualAccumulationInOneProcess) {
  const auto backward = [](const Parameter& w, int r) {
    Tensor x = Tensor::empty({7, 33});
    normal_(x, 0, 1, 9, static_cast<std::uint32_t>(r));
    sum(tanh(linear(x, w.tensor))).backward();
  };
  const auto weight = [] {
    Tensor w = Tensor::empty({5, 33});
    normal_(w, 0, 1, 9, 100);
    return Parameter{"w", w.set_requires_grad()};
  };
  const Parameter alone = weight();
  FlatParameters expected = FlatParameters::adopt({{alone}});
  for (int r = 0; r < 3; ++r) backward(alone, r);
  expected.settle_gradients();
  LocalSim::run(3, [&](ProcessGroup& group) {
    const Parameter w = weight();
    FlatParameters flat = FlatParameters::adopt({{w}});
    backward(w, group.rank());
    flat.settle_gradients();
    group.all_reduce(flat.gradients());
    EXPECT_EQ(bytes(flat.gradients()), bytes(expected.gradients()));
  });
}

TEST(ProcessGroup, MaxLetsNanWin) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  LocalSim::run(3, [&](ProcessGroup& group) {
    const int r = group.rank();
    Tensor x = Tensor::from<double>(
        {-1.0 * r, r == 0 ? nan : 1, r == 2 ? nan : 5, r == 1 ? inf : nan, r == 1 ? -inf : -2});
    group.all_reduce(x, ReduceKind::max);
    const std::vector<double> y = x.to_vector<double>();
    EXPECT_EQ(y[0], 0);
    EXPECT_TRUE(std::isnan(y[1]) && std::isnan(y[2]) && std::isnan(y[3]));
    EXPECT_EQ(y[4], -2);
    Tensor flag = Tensor::from<std::int64_t>({r == 1 ? 1 : 0, -r});
    group.all_reduce(flag, ReduceKind::max);
    EXPECT_EQ(flag.to_vector<std::int64_t>(), (std::vector<std::int64_t>{1, 0}));
  });
}

TEST(ProcessGroup, ReduceScatterAndAllGather) {
  for (const int ranks : {1, 2, 3})
    for (const std::int64_t n : {0, 1, 7, 1001}) {
      const Tensor expected = sequential_sum(ranks, n * ranks, Dtype::f32);
      LocalSim::run(ranks, [&](ProcessGroup& group) {
        const Tensor x = part(group.rank(), n * ranks, Dtype::f32);
        Tensor shard = Tensor::full({n}, 1e30);
        group.reduce_scatter(x, shard);
        EXPECT_EQ(bytes(shard), bytes(expected.narrow(0, group.rank() * n, n).contiguous()));
        EXPECT_EQ(bytes(x), bytes(part(group.rank(), n * ranks, Dtype::f32)));
        Tensor whole = Tensor::full({n * ranks}, 1e30);
        group.all_gather(shard, whole);
        EXPECT_EQ(bytes(whole), bytes(expected));
        // In place: the shard is the rank's own part of the result.
        Tensor in_place = Tensor::full({n * ranks}, 1e30);
        Tensor own = in_place.narrow(0, group.rank() * n, n);
        own.copy_(shard);
        group.all_gather(own, in_place);
        EXPECT_EQ(bytes(in_place), bytes(expected));
      });
    }
}

TEST(ProcessGroup, BroadcastOfAnyDtype) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::u8, Dtype::i32})
    LocalSim::run(3, [&](ProcessGroup& group) {
      for (int root = 0; root < 3; ++root) {
        Tensor x = Tensor::full({33}, 10 * root + group.rank(), {dtype});
        group.broadcast(x, root);
        EXPECT_EQ(x.to(Dtype::f64).to_vector<double>(), std::vector<double>(33, 11.0 * root));
      }
    });
}

TEST(ProcessGroup, HostSumsInRankOrder) {
  const double large = 1e16;
  LocalSim::run(3, [&](ProcessGroup& group) {
    const int r = group.rank();
    const double values[] = {r == 0 ? large : (r == 1 ? 1.0 : -large), 0.25 * r};
    // (1e16 + 1) rounds to 1e16, so this order gives 0; adding the large ones first would give 1.
    EXPECT_EQ(group.all_reduce_sums(values), (std::vector<double>{0, 0.75}));
    EXPECT_TRUE(group.all_reduce_sums({}).empty());
  });
}

TEST(ProcessGroup, NobodyPassesTheBarrierEarly) {
  std::atomic<int> arrived{0};
  LocalSim::run(4, [&](ProcessGroup& group) {
    for (int round = 1; round <= 100; ++round) {
      arrived.fetch_add(1);
      group.barrier();
      EXPECT_GE(arrived.load(), 4 * round);
      group.barrier();
      EXPECT_LE(arrived.load(), 4 * (round + 1));
    }
  });
  EXPECT_EQ(arrived.load(), 400);
}

TEST(ProcessGroup, WritesRaiseVersions) {
  LocalSim::run(2, [](ProcessGroup& group) {
    Tensor w = Tensor::ones({4}).set_requires_grad();
    const Tensor loss = sum(w * w);
    group.broadcast(w, 0);
    if (group.rank() == 0) loss.backward();  // the root's values were not touched
    if (group.rank() == 1) expect_usage_error([&] { loss.backward(); }, "last written by broadcast");
  });
}

TEST(ProcessGroup, ARankInheritsNoScope) {
  const NoGradGuard guard;
  LocalSim::run(2, [](ProcessGroup&) { EXPECT_TRUE(grad_enabled()); });
}

TEST(LocalSim, AnExceptionEndsTheOthersAndIsRethrown) {
  for (int bad = 0; bad < 3; ++bad) {
    std::atomic<int> passed{0};
    expect_error(
        [&] {
          LocalSim::run(3, [&](ProcessGroup& group) {
            group.barrier();
            if (group.rank() == bad) fail(ErrorCode::bad_input, "rank ", bad, " met a bad row");
            Tensor x = Tensor::zeros({8});
            group.all_reduce(x);
            passed.fetch_add(1);
          });
        },
        ErrorCode::bad_input, "rank " + std::to_string(bad) + " met a bad row");
    EXPECT_EQ(passed.load(), 0);
  }
}

TEST(LocalSim, TheLowestOfSeveralExceptionsAndAnyType) {
  EXPECT_THROW(LocalSim::run(3,
                             [](ProcessGroup& group) {
                               if (group.rank() == 1) throw std::out_of_range("one");
                               if (group.rank() == 2) throw std::logic_error("two");
                               group.barrier();
                             }),
               std::out_of_range);
}

TEST(LocalSim, ARankThatReturnsEarly) {
  expect_usage_error(
      [] {
        LocalSim::run(2, [](ProcessGroup& group) {
          if (group.rank() == 1) return;
          Tensor x = Tensor::zeros({8});
          group.all_reduce(x);
        });
      },
      "rank 1 returned while rank 0 waits for it in all_reduce of 8 elements");
}

TEST(LocalSim, MismatchesNameTheRanks) {
  const auto expect = [](const std::string& says, const std::function<void(ProcessGroup&)>& call) {
    std::atomic<int> refused{0};
    LocalSim::run(3, [&](ProcessGroup& group) {
      expect_usage_error([&] { call(group); }, "the ranks disagree: rank 0 calls " + says);
      refused.fetch_add(1);
      // The group goes on: a refused call has touched nothing.
      const double one[] = {1};
      EXPECT_EQ(group.all_reduce_sums(one), std::vector<double>{3});
    });
    EXPECT_EQ(refused.load(), 3);
  };
  expect("all_reduce (sum) of 8 elements of f32, rank 2 calls all_reduce (sum) of 9 elements of f32",
         [](ProcessGroup& group) { group.all_reduce(Tensor::zeros({group.rank() == 2 ? 9 : 8})); });
  expect("all_reduce (sum) of 4 elements of f32, rank 1 calls all_reduce (sum) of 4 elements of f64",
         [](ProcessGroup& group) {
           group.all_reduce(Tensor::zeros({4}, {group.rank() == 1 ? Dtype::f64 : Dtype::f32}));
         });
  expect("all_reduce (max) of 4 elements of f32, rank 1 calls all_reduce (sum) of 4 elements of f32",
         [](ProcessGroup& group) {
           group.all_reduce(Tensor::zeros({4}), group.rank() == 0 ? ReduceKind::max : ReduceKind::sum);
         });
  expect("broadcast (root 0) of 4 elements of f32, rank 1 calls broadcast (root 1) of 4 elements of f32",
         [](ProcessGroup& group) { group.broadcast(Tensor::zeros({4}), group.rank()); });
  expect("barrier, rank 2 calls all_reduce (sum) of 1 elements of f64", [](ProcessGroup& group) {
    const double one[] = {1};
    if (group.rank() == 2) group.all_reduce_sums(one);
    group.barrier();
  });
}

TEST(ProcessGroup, WhatOneRankCanRefuse) {
  SelfGroup self;
  expect_error([&] { self.all_reduce(Tensor::zeros({2}, {Dtype::f16})); }, ErrorCode::unsupported,
               "all_reduce of a f16 tensor; reductions take f32, f64 and i64");
  expect_usage_error([&] { self.all_reduce(Tensor::zeros({2, 3}).transpose(0, 1)); }, "not contiguous");
  expect_usage_error([&] { self.all_reduce(Tensor()); }, "all_reduce of an undefined tensor");
  expect_usage_error([&] { self.broadcast(Tensor::zeros({2}), 1); }, "broadcast from rank 1; the ranks are 0 to 0");
  expect_usage_error([&] { self.broadcast(Tensor::zeros({2}), -1); }, "broadcast from rank -1");
  expect_usage_error([&] { self.all_gather(Tensor::zeros({2}), Tensor::zeros({3})); },
                     "all_gather of 3 elements with a shard of 2");
  expect_usage_error([&] { self.reduce_scatter(Tensor::zeros({2}), Tensor::zeros({2}, {Dtype::f64})); },
                     "they must be alike");
  const Tensor x = Tensor::zeros({4});
  expect_usage_error([&] { self.reduce_scatter(x, x); }, "must keep its values");
  LocalSim::run(2, [](ProcessGroup& group) {
    const Tensor whole = Tensor::zeros({4});
    expect_usage_error([&] { group.all_gather(whole.narrow(0, 1, 2), whole); }, "is not the part of rank");
  });
  expect_usage_error([] { LocalSim::run(0, [](ProcessGroup&) {}); }, "LocalSim runs 0 ranks, it must be at least 1");
}

TEST(SelfGroup, IsTheIdentity) {
  SelfGroup group;
  EXPECT_EQ(group.rank(), 0);
  EXPECT_EQ(group.size(), 1);
  Tensor x = Tensor::from<double>({1, 2, 3});
  Tensor y = Tensor::zeros({3}, {Dtype::f64}), z = y.clone();
  group.all_reduce(x);
  group.broadcast(x);
  group.barrier();
  group.reduce_scatter(x, y);
  group.all_gather(y, z);
  EXPECT_EQ(z.to_vector<double>(), (std::vector<double>{1, 2, 3}));
  const double values[] = {0.5, 7};
  EXPECT_EQ(group.all_reduce_sums(values), (std::vector<double>{0.5, 7}));
}

}  // namespace
}  // namespace sinter
