// Collectives between the ranks of one process: sums equal to sequential accumulation, and failures that never hang.
#include "core/process_group.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "core/autograd/mode.h"
#include "core/flat_parameters.h"
#include "core/ops/elementwise.h"
#include "core/ops/matmul.h"
#include "core/ops/reduce.h"
#include "core/random.h"
#include "tests/core/expect_error.h"
#include "tests/core/other_devices.h"

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
    // The second sum is a denormal of two numbers that are none.
    const Tensor x = Tensor::from<float>({tiny, group.rank() == 0 ? 1.2e-38f : -1.19e-38f, 1.0f});
    group.all_reduce(x);
    EXPECT_EQ(x.to_vector<float>(), (std::vector<float>{0, 0, 2}));
  });
}

/// A linear model in flat buffers, and what data-parallel training needs of it.
struct Model {
  Parameter weight, bias;
  FlatParameters flat;

  static Tensor normal(const Shape& shape, Dtype dtype, std::uint32_t site) {
    Tensor x = Tensor::empty(shape, {dtype});
    normal_(x, 0, 1, 9, site);
    return x;
  }

  explicit Model(Dtype dtype)
      : weight{"weight", normal({5, 33}, dtype, 100).set_requires_grad()},
        bias{"bias", normal({5}, dtype, 101).set_requires_grad()},
        flat(FlatParameters::adopt({{weight, bias}})) {}

  /// Gradients of part `r` of step `step`'s batch.
  void backward(int step, int r) {
    const Tensor x = normal({7, 33}, weight.tensor.dtype(), static_cast<std::uint32_t>(10 * step + r));
    sum(tanh(linear(x, weight.tensor, bias.tensor))).backward();
  }

  void update() {
    flat.gradients().mul_(-0.01);
    flat.values().add_(flat.gradients());
    flat.mark_written("update");
    flat.zero_grad();
  }
};

TEST(ProcessGroup, DataParallelTrainingEqualsOneProcessThatAccumulates) {
  constexpr int kSteps = 4;
  for (const Dtype dtype : {Dtype::f32, Dtype::f64})
    for (const int ranks : {1, 2, 3, 5}) {
      std::vector<std::vector<std::uint8_t>> gradients, values;
      Model alone(dtype);
      for (int step = 0; step < kSteps; ++step) {
        for (int r = 0; r < ranks; ++r) alone.backward(step, r);
        alone.flat.settle_gradients();
        gradients.push_back(bytes(alone.flat.gradients()));
        alone.update();
        values.push_back(bytes(alone.flat.values()));
      }
      ASSERT_NE(values.front(), values.back());
      LocalSim::run(ranks, [&](ProcessGroup& group) {
        Model model(dtype);
        for (std::size_t step = 0; step < kSteps; ++step) {
          model.backward(static_cast<int>(step), group.rank());
          model.flat.settle_gradients();
          group.all_reduce(model.flat.gradients());
          EXPECT_EQ(bytes(model.flat.gradients()), gradients[step]) << ranks << " ranks, step " << step;
          model.update();
          EXPECT_EQ(bytes(model.flat.values()), values[step]) << ranks << " ranks, step " << step;
        }
      });
    }
}

// --- While the caller computes ---

TEST(ProcessGroup, AsynchronousOperationsKeepTheOrderOfTheCalls) {
  constexpr int kRanks = 3;
  const Tensor expected = sequential_sum(kRanks, 1000, Dtype::f32);
  LocalSim::run(kRanks, [&](ProcessGroup& group) {
    for (int round = 0; round < 50; ++round) {
      const Tensor first = part(group.rank(), 1000, Dtype::f32), second = part(group.rank(), 1000, Dtype::f64);
      const std::unique_ptr<Work> a = group.all_reduce_async(first);
      const std::unique_ptr<Work> b = group.all_reduce_async(second, ReduceKind::max);
      const double one[] = {1};
      EXPECT_EQ(group.all_reduce_sums(one), std::vector<double>{kRanks});   // behind both
      b->wait();
      a->wait();
      a->wait();
      EXPECT_EQ(bytes(first), bytes(expected));
      EXPECT_STREQ(first.storage()->last_writer(), "all_reduce");
    }
  });
}

// The caller goes on where a peer is late: here rank 0 must come first, whose peer comes when it has gone on.
TEST(ProcessGroup, AnAsynchronousOperationDoesNotWaitForPeers) {
  std::atomic<bool> went_on{false};
  LocalSim::run(2, [&](ProcessGroup& group) {
    const Tensor x = Tensor::ones({8});
    if (group.rank() == 1)
      while (!went_on.load()) std::this_thread::yield();
    const std::unique_ptr<Work> work = group.all_reduce_async(x);
    went_on.store(true);
    work->wait();
    EXPECT_EQ(x.to_vector<float>(), std::vector<float>(8, 2.0F));
  });
}

TEST(ProcessGroup, AnAsynchronousOperationThrowsWhenItIsAwaited) {
  LocalSim::run(2, [&](ProcessGroup& group) {
    const Tensor x = Tensor::zeros({group.rank() == 0 ? 4 : 5}), kept = Tensor::ones({2});
    const std::unique_ptr<Work> bad = group.all_reduce_async(x), good = group.all_reduce_async(kept);
    expect_usage_error([&] { bad->wait(); }, "the ranks disagree: rank 0 calls all_reduce (sum) of 4 elements of f32");
    good->wait();
    EXPECT_EQ(kept.to_vector<float>(), (std::vector<float>{2, 2}));
    static_cast<void>(group.all_reduce_async(kept));   // whoever drops it waits for it
    EXPECT_EQ(kept.to_vector<float>(), (std::vector<float>{4, 4}));
  });
  expect_error(
      [] {
        LocalSim::run(2, [](ProcessGroup& group) {
          const Tensor x = Tensor::zeros({8});
          const std::unique_ptr<Work> work = group.rank() == 0 ? group.all_reduce_async(x) : nullptr;
          if (group.rank() == 1) fail(ErrorCode::diverged, "rank 1 has enough");
          work->wait();
        });
      },
      ErrorCode::diverged, "rank 1 has enough");
}

TEST(ProcessGroup, TensorsOfOtherDevicesTravelByACopy) {
  if (const std::string why = testing::why_not_on(Device::simt()); !why.empty()) GTEST_SKIP() << why;
  LocalSim::run(2, [&](ProcessGroup& group) {
    const TensorOptions there{Dtype::f32, Device::simt(group.rank())};
    const auto on_device = [&](std::vector<float> values) {
      const auto count = static_cast<std::int64_t>(values.size());
      return Tensor::from(values, {count}).to(there.device);
    };
    const float r = static_cast<float>(group.rank());
    const Tensor x = on_device({r, 2, 3, 4});
    group.all_reduce(x);
    EXPECT_EQ(x.to(Device::cpu()).to_vector<float>(), (std::vector<float>{1, 4, 6, 8}));
    group.all_reduce_async(x)->wait();
    EXPECT_EQ(x.to(Device::cpu()).to_vector<float>(), (std::vector<float>{2, 8, 12, 16}));
    const Tensor shard = Tensor::zeros({2}, there);
    group.reduce_scatter(x, shard);
    EXPECT_EQ(shard.to(Device::cpu()).to_vector<float>(),
              group.rank() == 0 ? (std::vector<float>{4, 16}) : (std::vector<float>{24, 32}));
    group.all_gather(shard, x);
    EXPECT_EQ(x.to(Device::cpu()).to_vector<float>(), (std::vector<float>{4, 16, 24, 32}));
    const Tensor own = on_device({r, r});
    group.broadcast(own, 1);
    EXPECT_EQ(own.to(Device::cpu()).to_vector<float>(), (std::vector<float>{1, 1}));
  });
}

TEST(ProcessGroup, ATraceShowsWhatWentOnBehindTheCaller) {
  LocalSim::run(2, [&](ProcessGroup& group) {
    const CollectiveTrace trace;
    const Tensor x = Tensor::ones({1000}), y = Tensor::ones({500});
    const std::unique_ptr<Work> work = group.all_reduce_async(x);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));   // computing, so to speak
    work->wait();
    group.broadcast(y);
    const std::vector<TracedCollective> operations = trace.operations();
    ASSERT_EQ(operations.size(), 2u);
    EXPECT_STREQ(operations[0].name, "all_reduce");
    EXPECT_EQ(operations[0].bytes, 4000);
    EXPECT_LE(operations[0].called, operations[0].begun);
    EXPECT_LE(operations[0].begun, operations[0].ended);
    EXPECT_LT(operations[0].ended, operations[0].awaited);   // hidden
    EXPECT_STREQ(operations[1].name, "broadcast");
    EXPECT_EQ(operations[1].bytes, 2000);
    EXPECT_LE(operations[1].awaited, operations[1].begun);   // not hidden
    const CollectiveSeconds first = seconds_of({operations.begin(), operations.begin() + 1});
    EXPECT_EQ(first.hidden, first.under_way);
    EXPECT_EQ(seconds_of({operations.begin() + 1, operations.end()}).hidden, 0);
  });
  EXPECT_EQ(seconds_of({{.begun = 1, .ended = 5, .awaited = 2}}).hidden, 1);
  EXPECT_EQ(seconds_of({{.begun = -1, .ended = -1, .awaited = 2}}).under_way, 0);
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
    constexpr std::int32_t most = std::numeric_limits<std::int32_t>::max();
    const Tensor wraps = Tensor::from<std::int32_t>({most, r});
    group.all_reduce(wraps);
    EXPECT_EQ(wraps.to_vector<std::int32_t>(), (std::vector<std::int32_t>{most - 2, 3}));
  });
}

TEST(ProcessGroup, ReduceScatterAndAllGather) {
  for (const int ranks : {1, 2, 3, 5})
    for (const std::int64_t n : {0, 1, 7, 1001}) {
      const Dtype dtype = n == 7 ? Dtype::f64 : Dtype::f32;
      const Tensor expected = sequential_sum(ranks, n * ranks, dtype);
      LocalSim::run(ranks, [&](ProcessGroup& group) {
        const Tensor x = part(group.rank(), n * ranks, dtype);
        Tensor shard = Tensor::full({n}, 1e30, {dtype});
        group.reduce_scatter(x, shard);
        EXPECT_EQ(bytes(shard), bytes(expected.narrow(0, group.rank() * n, n).contiguous()));
        EXPECT_EQ(bytes(x), bytes(part(group.rank(), n * ranks, dtype)));
        Tensor whole = Tensor::full({n * ranks}, 1e30, {dtype});
        group.all_gather(shard, whole);
        EXPECT_EQ(bytes(whole), bytes(expected));
        // In place: the shard is the rank's own part of the result.
        Tensor in_place = Tensor::full({n * ranks}, 1e30, {dtype});
        Tensor own = in_place.narrow(0, group.rank() * n, n);
        own.copy_(shard);
        group.all_gather(own, in_place);
        EXPECT_EQ(bytes(in_place), bytes(expected));
      });
    }
}

TEST(ProcessGroup, BroadcastOfAnyDtype) {
  for (const Dtype dtype : {Dtype::f32, Dtype::f16, Dtype::u8, Dtype::i32})
    for (const int ranks : {1, 2, 3, 5})
      LocalSim::run(ranks, [&](ProcessGroup& group) {
        for (int root = 0; root < ranks; ++root)
          for (const std::size_t n : {0, 1, 33}) {
            const Shape shape{static_cast<std::int64_t>(n)};
            Tensor x = Tensor::full(shape, 10 * root + group.rank(), {dtype});
            group.broadcast(x, root);
            EXPECT_EQ(x.to(Dtype::f64).to_vector<double>(), std::vector<double>(n, 11.0 * root));
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
    const Tensor two = Tensor::ones({2}), four = Tensor::ones({4});
    const std::uint64_t before = two.storage()->version();
    group.reduce_scatter(four, two);
    EXPECT_EQ(two.storage()->version(), before + 1);
    EXPECT_STREQ(two.storage()->last_writer(), "reduce_scatter");
    group.all_gather(two, four);
    EXPECT_STREQ(four.storage()->last_writer(), "all_gather");
    EXPECT_EQ(two.storage()->version(), before + 1);  // only read
    group.all_reduce(four);
    EXPECT_STREQ(four.storage()->last_writer(), "all_reduce");
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

TEST(LocalSim, AFailureEndsRanksThatWaitInAnyOperation) {
  const std::vector<std::function<void(ProcessGroup&)>> operations{
      [](ProcessGroup& group) { group.barrier(); },
      [](ProcessGroup& group) { group.all_reduce(Tensor::zeros({6}), ReduceKind::max); },
      [](ProcessGroup& group) { group.reduce_scatter(Tensor::zeros({6}), Tensor::zeros({2})); },
      [](ProcessGroup& group) { group.all_gather(Tensor::zeros({2}), Tensor::zeros({6})); },
      [](ProcessGroup& group) { group.broadcast(Tensor::zeros({0}), 2); },
      [](ProcessGroup& group) { EXPECT_TRUE(group.all_reduce_sums({}).empty()); },
  };
  for (const auto& operation : operations)
    for (const int round_of_failure : {0, 1, 50})
      expect_error(
          [&] {
            LocalSim::run(3, [&](ProcessGroup& group) {
              for (int round = 0; round < 100; ++round) {
                if (group.rank() == 1 && round == round_of_failure) fail(ErrorCode::io, "no more rows");
                operation(group);
              }
            });
          },
          ErrorCode::io, "no more rows");
}

TEST(LocalSim, ARankThatSwallowsAPeersFailureMeetsItAgain) {
  expect_error(
      [] {
        LocalSim::run(2, [](ProcessGroup& group) {
          if (group.rank() == 1) fail(ErrorCode::io, "no more rows");
          // Not barrier(): its second meeting would give the same error after a first that counted rank 0 twice.
          for (int i = 0; i < 3; ++i)
            expect_error([&] { group.all_reduce(Tensor::zeros({8})); }, ErrorCode::internal,
                         "rank 1 failed while rank 0 waited for it in all_reduce");
        });
      },
      ErrorCode::io, "no more rows");
}

TEST(LocalSim, ManyRoundsOfMixedOperations) {
  for (const int ranks : {2, 3, 5})
    LocalSim::run(ranks, [&](ProcessGroup& group) {
      for (int round = 0; round < 300; ++round) {
        const std::int64_t n = round % 11;
        Tensor shard = Tensor::full({n}, round + group.rank()), whole = Tensor::full({n * ranks}, -1);
        group.all_gather(shard, whole);
        group.all_reduce(whole);
        group.reduce_scatter(whole, shard);
        double expected = 1.0 * (round + group.rank()) * ranks * ranks;
        ASSERT_EQ(bytes(shard), bytes(Tensor::full({n}, expected)));
        group.broadcast(shard, round % ranks);
        group.all_reduce(shard, ReduceKind::max);
        expected = 1.0 * (round + round % ranks) * ranks * ranks;
        ASSERT_EQ(bytes(shard), bytes(Tensor::full({n}, expected)));
      }
    });
}

TEST(LocalSim, RefusesOneTensorForSeveralRanks) {
  const auto refused = [](const std::string& says, const std::function<void(ProcessGroup&)>& call) {
    expect_usage_error([&] { LocalSim::run(3, call); }, says);
  };
  const Tensor shared = Tensor::zeros({8}), whole = Tensor::zeros({24});
  refused("ranks 0 and 1 pass the same memory to all_reduce (sum) of 8 elements of f32",
          [&](ProcessGroup& group) { group.all_reduce(shared); });
  refused("ranks 1 and 2 pass the same memory to all_reduce (max) of 5 elements of f32", [&](ProcessGroup& group) {
    const Tensor own = Tensor::zeros({5});
    group.all_reduce(group.rank() == 0 ? own : shared.narrow(0, group.rank() == 1 ? 0 : 3, 5), ReduceKind::max);
  });
  refused("ranks 0 and 1 pass the same memory to broadcast (root 0) of 8 elements of f32",
          [&](ProcessGroup& group) { group.broadcast(whole.narrow(0, 8 * group.rank(), 8)); });  // one version
  refused("ranks 1 and 2 pass the same memory to all_reduce (sum) of 3 elements of f32", [&](ProcessGroup& group) {
    // Two storages on one memory, which meet in one element.
    const auto slice = std::make_shared<Storage>(shared.storage(), group.rank() == 2 ? 8 : 0, 12);
    const Tensor own = Tensor::zeros({3});
    group.all_reduce(group.rank() == 0 ? own : Tensor::view_of(slice, 0, {3}, {1}, Dtype::f32));
  });
  refused("pass the same memory to reduce_scatter", [&](ProcessGroup& group) {
    group.reduce_scatter(group.rank() == 0 ? Tensor::zeros({24}) : whole,
                         group.rank() == 0 ? whole.narrow(0, 0, 8) : Tensor::zeros({8}));
  });
  // What is only read may be one tensor, and slices that touch do not overlap.
  LocalSim::run(3, [&](ProcessGroup& group) {
    group.reduce_scatter(whole, Tensor::zeros({8}));
    group.all_gather(shared, Tensor::zeros({24}));
    const auto slice = std::make_shared<Storage>(whole.storage(), 32 * static_cast<std::size_t>(group.rank()), 32);
    group.all_reduce(Tensor::view_of(slice, 0, {8}, {1}, Dtype::f32));
  });
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
  expect("all_reduce (sum) of 4 elements of f32, rank 2 calls broadcast (root 0) of 4 elements of f32",
         [](ProcessGroup& group) {  // differ in nothing but the operation
           if (group.rank() == 2) group.broadcast(Tensor::zeros({4}));
           group.all_reduce(Tensor::zeros({4}));
         });
  expect("barrier, rank 2 calls all_reduce (sum) of 1 elements of f64", [](ProcessGroup& group) {
    const double one[] = {1};
    if (group.rank() == 2) static_cast<void>(group.all_reduce_sums(one));
    group.barrier();
  });
  expect("reduce_scatter (sum) of 6 elements of f32, rank 1 calls reduce_scatter (sum) of 3 elements of f32",
         [](ProcessGroup& group) {
           const std::int64_t n = group.rank() == 1 ? 1 : 2;
           group.reduce_scatter(Tensor::zeros({3 * n}), Tensor::zeros({n}));
         });
  expect("all_gather of 2 elements of u8, rank 1 calls broadcast (root 0) of 2 elements of u8",
         [](ProcessGroup& group) {
           if (group.rank() == 1) group.broadcast(Tensor::zeros({2}, {Dtype::u8}));
           group.all_gather(Tensor::zeros({2}, {Dtype::u8}), Tensor::zeros({6}, {Dtype::u8}));
         });
}

TEST(ProcessGroup, WhatOneRankCanRefuse) {
  SelfGroup self;
  expect_error([&] { self.all_reduce(Tensor::zeros({2}, {Dtype::f16})); }, ErrorCode::unsupported,
               "all_reduce of a f16 tensor; reductions take f32, f64, i64 and i32");
  expect_usage_error([&] { self.all_reduce(Tensor::zeros({2, 3})); }, "it takes contiguous tensors of rank 1");
  expect_usage_error([&] { self.all_reduce(Tensor::zeros({2, 3}).select(1, 0)); }, "of a non-contiguous tensor [2]");
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
  const Tensor x = Tensor::from<double>({1, 2, 3});
  const Tensor y = Tensor::zeros({3}, {Dtype::f64}), z = Tensor::zeros({3}, {Dtype::f64});
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
