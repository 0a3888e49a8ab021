#include "core/process_group.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/flat_parameters.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/random.h"

namespace sinter {
namespace {

constexpr int kRankCounts[] = {1, 2, 3, 5};

/// Values of rank r: magnitudes far apart, so that another order of summation gives other bits.
Tensor values_of(int rank, std::int64_t n, Dtype dtype) {
  Tensor x = Tensor::empty({n}, {dtype});
  normal_(x, 0, std::pow(10.0, rank % 3), 5, static_cast<std::uint32_t>(rank));
  return x;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const auto bytes = static_cast<std::size_t>(a.numel()) * size_of(a.dtype());
  return a.shape() == b.shape() && a.dtype() == b.dtype() && (bytes == 0 || std::memcmp(a.data(), b.data(), bytes) == 0);
}

Tensor sequential_sum(int ranks, std::int64_t n, Dtype dtype) {
  Tensor total = values_of(0, n, dtype);
  for (int r = 1; r < ranks; ++r) total.add_(values_of(r, n, dtype));
  return total;
}

TEST(ProcessGroup, AllReduceEqualsTheSequentialSum) {
  for (const int ranks : kRankCounts)
    for (const Dtype dtype : {Dtype::f32, Dtype::f64})
      for (const std::int64_t n : {0, 1, 1000}) {
        const Tensor expected = sequential_sum(ranks, n, dtype);
        std::atomic<int> right{0};
        LocalSim::run(ranks, [&](ProcessGroup& group) {
          const Tensor range = values_of(group.rank(), n, dtype);
          group.all_reduce(range);
          right += same_bits(range, expected) ? 1 : 0;
        });
        EXPECT_EQ(right.load(), ranks) << ranks << " ranks, " << n << " elements";
      }
}

TEST(ProcessGroup, MaximumOfIntegers) {
  LocalSim::run(3, [](ProcessGroup& group) {
    const Tensor range = Tensor::from<std::int64_t>({group.rank(), -group.rank(), 7});
    group.all_reduce(range, ReduceKind::max);
    EXPECT_EQ(range.to_vector<std::int64_t>(), (std::vector<std::int64_t>{2, 0, 7}));
  });
}

TEST(ProcessGroup, ScatterThenGatherIsAllReduce) {
  for (const int ranks : kRankCounts) {
    const std::int64_t n = 30 * ranks;
    const Tensor expected = sequential_sum(ranks, n, Dtype::f32);
    LocalSim::run(ranks, [&](ProcessGroup& group) {
      for (int round = 0; round < 20; ++round) {
        const Tensor part = Tensor::empty({30}), whole = Tensor::empty({n});
        group.reduce_scatter(values_of(group.rank(), n, Dtype::f32), part);
        group.all_gather(part, whole);
        EXPECT_TRUE(same_bits(whole, expected));
      }
    });
  }
}

TEST(ProcessGroup, BroadcastBarrierAndHostSums) {
  for (const int ranks : kRankCounts)
    LocalSim::run(ranks, [&](ProcessGroup& group) {
      const int root = ranks - 1;
      const Tensor range = values_of(group.rank(), 100, Dtype::f64);
      group.broadcast(range, root);
      EXPECT_TRUE(same_bits(range, values_of(root, 100, Dtype::f64)));
      group.barrier();
      const double mine[] = {0.5 * group.rank(), 1};
      EXPECT_EQ(group.all_reduce_sums(mine), (std::vector<double>{0.25 * ranks * (ranks - 1), static_cast<double>(ranks)}));
    });
}

TEST(ProcessGroup, AloneEveryCollectiveIsTheIdentity) {
  SelfGroup group;
  EXPECT_EQ(group.size(), 1);
  const Tensor range = values_of(1, 10, Dtype::f32), copy = Tensor::empty({10});
  group.all_reduce(range, ReduceKind::sum);
  group.broadcast(range, 0);
  EXPECT_TRUE(same_bits(range, values_of(1, 10, Dtype::f32)));
  group.reduce_scatter(range, copy);
  EXPECT_TRUE(same_bits(range, copy));
  copy.detach().zero_();
  group.all_gather(range, copy);
  EXPECT_TRUE(same_bits(range, copy));
  EXPECT_THROW(group.broadcast(range, 1), Error);
}

std::string message(int ranks, const std::function<void(ProcessGroup&)>& fn) {
  try {
    LocalSim::run(ranks, fn);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

TEST(ProcessGroup, DisagreementNamesBothRanks) {
  const std::string lengths = message(3, [](ProcessGroup& group) {
    group.all_reduce(Tensor::zeros({group.rank() == 2 ? 5 : 4}));
  });
  EXPECT_EQ(lengths, "ranks disagree: rank 0 calls all_reduce(f32 [4], 0), rank 2 calls all_reduce(f32 [5], 0)");
  const std::string collectives = message(2, [](ProcessGroup& group) {
    if (group.rank() == 0) return group.barrier();
    group.broadcast(Tensor::zeros({4}), 0);
  });
  EXPECT_NE(collectives.find("rank 0 calls barrier"), std::string::npos) << collectives;
}

TEST(ProcessGroup, ARankThatThrowsEndsTheOthers) {
  for (int thrower = 0; thrower < 3; ++thrower) {
    const std::string text = message(3, [&](ProcessGroup& group) {
      group.barrier();
      if (group.rank() == thrower) throw std::runtime_error("disk full");
      for (int i = 0; i < 100; ++i) group.barrier();
    });
    EXPECT_EQ(text, "disk full");
  }
  const std::string left_early = message(2, [](ProcessGroup& group) {
    if (group.rank() == 1) group.barrier();
  });
  EXPECT_NE(left_early.find("another rank ended"), std::string::npos) << left_early;
}

TEST(ProcessGroup, RefusesWhatItCannotReduce) {
  SelfGroup group;
  EXPECT_THROW(group.all_reduce(Tensor::zeros({4}, {Dtype::f16}), ReduceKind::sum), Error);
  EXPECT_THROW(group.all_reduce(Tensor::zeros({2, 2}), ReduceKind::sum), Error);
  EXPECT_THROW(group.reduce_scatter(Tensor::zeros({4}), Tensor::zeros({3})), Error);
}

/// R ranks with a share of the batch each equal one process that adds the same micro-batches in the order of the ranks.
TEST(ProcessGroup, DataParallelGradientsEqualAccumulation) {
  constexpr std::int64_t kFeatures = 6, kShare = 5;
  const auto share_gradient = [&](int rank, const Tensor& weight) {
    Tensor x = Tensor::empty({kShare, kFeatures});
    normal_(x, 0, 1, 11, static_cast<std::uint32_t>(rank));
    sum(tanh(linear(x, weight))).backward();
  };
  const auto make_weight = [&] {
    Tensor weight = Tensor::empty({3, kFeatures});
    normal_(weight, 0, 1, 3, 0);
    return weight.set_requires_grad();
  };
  for (const int ranks : kRankCounts) {
    const Tensor weight = make_weight();
    FlatParameters accumulated = FlatParameters::adopt({{{"weight", weight}}});
    for (int r = 0; r < ranks; ++r) share_gradient(r, weight);
    LocalSim::run(ranks, [&](ProcessGroup& group) {
      const Tensor mine = make_weight();
      FlatParameters flat = FlatParameters::adopt({{{"weight", mine}}});
      share_gradient(group.rank(), mine);
      flat.settle_gradients();
      group.all_reduce(flat.gradients());
      EXPECT_TRUE(same_bits(flat.gradients(), accumulated.gradients())) << ranks << " ranks";
    });
  }
}

}  // namespace
}  // namespace sinter
