#include "tests/train/ranks/nccl_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <thread>

#include "core/ops/elementwise.h"
#include "core/runtime/step_arena.h"
#include "tests/core/expect_error.h"
#include "tests/train/ranks/rank_training.h"

namespace sinter::train::testing {
namespace {

using sinter::testing::expect_error;

constexpr Dtype kReducible[] = {Dtype::f32, Dtype::f64, Dtype::i64, Dtype::i32};

/// 1000 rank + i for element i: exact in every dtype and order of addition.
double element(int rank, std::int64_t i) { return 1000.0 * rank + static_cast<double>(i); }

Tensor elements(const NcclGroup& group, std::int64_t numel, Dtype dtype) {
  std::vector<double> x;
  for (std::int64_t i = 0; i < numel; ++i) x.push_back(element(group.rank(), i));
  return Tensor::from(x, {numel}).to(dtype).to(group.device());
}

std::vector<double> values(const Tensor& x) { return x.to(Device::cpu()).to(Dtype::f64).to_vector<double>(); }

std::vector<double> reduced(const NcclGroup& group, std::int64_t numel, ReduceKind kind) {
  std::vector<double> result;
  for (std::int64_t i = 0; i < numel; ++i) {
    double sum = 0;
    for (int r = 0; r < group.size(); ++r) sum += element(r, i);
    result.push_back(kind == ReduceKind::sum ? sum : element(group.size() - 1, i));
  }
  return result;
}

std::vector<double> part(const std::vector<double>& x, int rank, std::int64_t numel) {
  return {x.begin() + rank * numel, x.begin() + (rank + 1) * numel};
}

/// On tensors that lie on the device, in ranges of them.
void reductions(NcclGroup& group) {
  const int ranks = group.size(), rank = group.rank();
  for (const Dtype dtype : kReducible)
    for (const ReduceKind kind : {ReduceKind::sum, ReduceKind::max})
      for (const std::int64_t n : {1, 7, 1024}) {
        Tensor whole = Tensor::zeros({n + 2}, {dtype, group.device()}), range = whole.narrow(0, 1, n);
        range.copy_(elements(group, n, dtype));
        const std::uint64_t version = whole.storage()->version();
        group.all_reduce(range, kind);
        EXPECT_GT(whole.storage()->version(), version);
        std::vector<double> expected = reduced(group, n, kind);
        EXPECT_EQ(values(range), expected);
        expected.insert(expected.begin(), 0);
        expected.push_back(0);
        EXPECT_EQ(values(whole), expected);

        const Tensor flat = elements(group, n * ranks, dtype);
        Tensor shard = Tensor::zeros({n}, {dtype, group.device()});
        group.reduce_scatter(flat, shard, kind);
        EXPECT_EQ(values(shard), part(reduced(group, n * ranks, kind), rank, n));
        EXPECT_EQ(values(flat), values(elements(group, n * ranks, dtype)));
      }
}

void gathers_and_broadcasts(NcclGroup& group) {
  const std::int64_t n = 5;
  for (const Dtype dtype : {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16, Dtype::i64, Dtype::i32, Dtype::u8}) {
    const Tensor shard = Tensor::full({n}, group.rank() + 1, {dtype}).to(group.device());
    const Tensor flat = Tensor::zeros({n * group.size()}, {dtype}).to(group.device());
    group.all_gather(shard, flat);
    std::vector<double> expected;
    for (std::int64_t i = 0; i < n * group.size(); ++i) expected.push_back(1.0 + static_cast<double>(i / n));
    EXPECT_EQ(values(flat), expected);
    Tensor in_place = Tensor::zeros({n * group.size()}, {dtype}).to(group.device());
    in_place.narrow(0, group.rank() * n, n).copy_(shard);
    group.all_gather(in_place.narrow(0, group.rank() * n, n), in_place);
    EXPECT_EQ(values(in_place), expected);
    for (int root = 0; root < group.size(); ++root) {
      const Tensor x = Tensor::full({n}, group.rank() + 1, {dtype}).to(group.device());
      group.broadcast(x, root);
      EXPECT_EQ(values(x), std::vector<double>(static_cast<std::size_t>(n), root + 1.0));
    }
  }
}

/// Every rank has its NaN at another place, beside infinities of both signs.
void nan_wins(NcclGroup& group) {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const int rank = group.rank(), ranks = group.size();
  for (const Dtype dtype : {Dtype::f32, Dtype::f64}) {
    std::vector<double> x(static_cast<std::size_t>(ranks) + 2, 1.0 + rank);
    x[static_cast<std::size_t>(rank)] = nan;
    x[static_cast<std::size_t>(ranks)] = rank == 0 ? inf : -inf;
    x[static_cast<std::size_t>(ranks) + 1] = -inf;
    const auto numel = static_cast<std::int64_t>(x.size());
    const Tensor flat = Tensor::from(x, {numel}).to(dtype).to(group.device());
    group.all_reduce(flat, ReduceKind::max);
    const std::vector<double> y = values(flat);
    for (int r = 0; r < ranks; ++r) EXPECT_TRUE(std::isnan(y[static_cast<std::size_t>(r)])) << r;
    EXPECT_EQ(y[static_cast<std::size_t>(ranks)], inf);
    EXPECT_EQ(y[static_cast<std::size_t>(ranks) + 1], -inf);

    const Tensor own = Tensor::from(std::vector<double>(x.begin(), x.begin() + ranks), {ranks}).to(dtype);
    Tensor shard = Tensor::zeros({1}, {dtype, group.device()});
    group.reduce_scatter(own.to(group.device()), shard, ReduceKind::max);
    EXPECT_TRUE(std::isnan(values(shard)[0]));
  }
}

/// What is computed before an operation goes into it, and what is computed behind it takes its result, though the host
/// waits for neither.
void order_with_computations(NcclGroup& group) {
  const double ranks = group.size(), sum_of_ranks = ranks * (ranks - 1) / 2;
  const std::int64_t n = 3000;
  for (int round = 0; round < 3; ++round) {
    Tensor x = Tensor::full({n}, group.rank(), {Dtype::f32, group.device()});
    x = x * 2.0 + 1.0;
    const Tensor y = Tensor::full({n}, 1 + group.rank(), {Dtype::f32, group.device()}) * 3.0;
    const Tensor top = Tensor::full({n}, group.rank(), {Dtype::f32, group.device()}) + 4.0;
    const std::unique_ptr<Work> of_x = group.all_reduce_async(x), of_y = group.all_reduce_async(y);
    const std::unique_ptr<Work> of_top = group.all_reduce_async(top, ReduceKind::max);
    const Tensor beside = Tensor::full({n}, 5, {Dtype::f32, group.device()}) * 7.0;   // while they travel
    group.all_reduce(beside);
    of_y->wait();
    const Tensor y_twice = y * 2.0;
    of_x->wait();
    of_x->wait();
    of_top->wait();
    const Tensor x_and_top = x + top;
    x.fill_(0);
    EXPECT_EQ(values(y_twice)[static_cast<std::size_t>(n) - 1], 6 * (sum_of_ranks + ranks));
    EXPECT_EQ(values(x_and_top)[0], 2 * sum_of_ranks + ranks + ranks - 1 + 4);
    EXPECT_EQ(values(beside)[17], 35 * ranks);
  }
}

/// The host may wait for the group's stream before it does for the other: what was computed comes first all the same.
/// Nothing is freed meanwhile, for which an emulated device would wait.
void order_without_a_wait(NcclGroup& group) {
  const int ranks = group.size();
  Tensor x = Tensor::zeros({5}, {Dtype::f32, group.device()});
  for (int round = 1; round < 4; ++round) {
    x.fill_(round * (group.rank() + 1));
    const std::unique_ptr<Work> work = group.all_reduce_async(x);
    group.barrier();
    work->wait();
    EXPECT_EQ(values(x), std::vector<double>(5, 0.5 * round * ranks * (ranks + 1)));
  }
}

void numbers_of_the_host(NcclGroup& group) {
  constexpr double first[] = {1, 1e16, -1e16, 0};
  const double mine[] = {first[group.rank()], 0.5};
  const std::vector<double> sums = group.all_reduce_sums(mine);
  EXPECT_EQ(sums[0], group.size() == 1 ? 1 : group.size() == 2 ? 1e16 : 0);   // any other order of three gives 1
  EXPECT_EQ(sums[1], 0.5 * group.size());
  EXPECT_EQ(group.all_reduce_sums(std::vector<double>(1000, 2.0)), std::vector<double>(1000, 2.0 * group.size()));
  EXPECT_TRUE(group.all_reduce_sums({}).empty());
  group.barrier();
}

/// A step with all operations, captured once and launched with other inputs.
void captured_steps(NcclGroup& group) {
  const std::int64_t n = 6;
  const int ranks = group.size(), rank = group.rank();
  const TensorOptions f32{Dtype::f32, group.device()};
  const Tensor input = Tensor::full({n}, 1, f32), sums = Tensor::zeros({n}, f32), tops = Tensor::zeros({n}, f32);
  const Tensor part_of = Tensor::zeros({1}, f32), all = Tensor::zeros({ranks}, f32), first = Tensor::zeros({n}, f32);
  const auto step = [&] {
    const Tensor x = input * 2.0;
    Tensor total = x + 0.0, top = x + 0.0, from_first = x + 0.0;
    const std::unique_ptr<Work> work = group.all_reduce_async(total);
    const std::unique_ptr<Work> of_top = group.all_reduce_async(top, ReduceKind::max);
    work->wait();
    of_top->wait();
    group.broadcast(from_first);
    const Tensor whole = Tensor::full({ranks}, 1, f32) * x.narrow(0, 0, 1);
    Tensor shard = Tensor::zeros({1}, f32), gathered = Tensor::zeros({ranks}, f32);
    group.reduce_scatter(whole, shard);
    group.all_gather(x.narrow(0, 0, 1), gathered);
    for (const auto& [to, from] : {std::pair(sums, total + 1.0), {tops, top}, {part_of, shard}, {all, gathered},
                                   {first, from_first}}) {
      Tensor kept = to;
      kept.copy_(from);
    }
  };
  const auto check = [&](double of_rank) {   // inputs are of_rank * (rank + 1)
    const auto whole = [](std::int64_t count, double value) {
      return std::vector<double>(static_cast<std::size_t>(count), value);
    };
    const double total = of_rank * ranks * (ranks + 1);
    std::vector<double> gathered;
    for (int r = 0; r < ranks; ++r) gathered.push_back(2 * of_rank * (r + 1));
    EXPECT_EQ(values(sums), whole(n, total + 1));
    EXPECT_EQ(values(tops), whole(n, 2 * of_rank * ranks));
    EXPECT_EQ(values(part_of), whole(1, total));
    EXPECT_EQ(values(all), gathered);
    EXPECT_EQ(values(first), whole(n, 2 * of_rank));
  };
  Tensor settable = input;
  settable.fill_(1.0 * (rank + 1));
  StepArena arena(group.device());
  const StepPlan plan = arena.observe(step);
  check(1);
  const StepGraph graph = arena.capture(plan, step);
  for (const double of_rank : {3.0, 8.0, 5.0}) {
    settable.fill_(of_rank * (rank + 1));
    arena.poison();
    graph.launch();
    check(of_rank);
    settable.fill_(7.0 * (rank + 1));
    step();   // the same without a graph
    check(7);
  }
  settable.fill_(rank == ranks - 1 ? std::numeric_limits<double>::quiet_NaN() : 1);
  graph.launch();
  for (const double top : values(tops)) EXPECT_TRUE(std::isnan(top));
}

void captures_refuse_what_waits(NcclGroup& group) {
  StepArena arena(group.device());
  const StepPlan plan = arena.observe([] {});
  expect_error([&] { const StepGraph graph = arena.capture(plan, [&] { group.barrier(); }); }, ErrorCode::unsupported,
               "a captured step cannot wait for other ranks, as barrier does");
  const double one[] = {1};
  expect_error([&] { const StepGraph graph = arena.capture(plan, [&] { (void)group.all_reduce_sums(one); }); },
               ErrorCode::unsupported, "a captured step cannot wait for other ranks, as all_reduce_sums does");
  group.barrier();
}

std::vector<double> losses(const std::vector<kernels::UpdateRecord>& records) {
  std::vector<double> all;
  for (const kernels::UpdateRecord& record : records) all.push_back(record.skipped ? -1 : record.loss);
  return all;
}

/// Steps with forward, backward beside the operations between the ranks, and the update: captured and launched kernel
/// by kernel, with the optimizer's states shared out and without, the same bits.
void training_steps(NcclGroup& group) {
  for (const Dtype compute : {Dtype::f32, Dtype::f16}) {
    RankTraining captured(group, {.compute = compute}), launched(group, {.cuda_graphs = false, .compute = compute}),
        sharded(group, {.sharded = true, .compute = compute});
    std::mt19937 random(5);   // all ranks know all batches
    for (std::uint32_t step = 0; step < 12; ++step) {
      const std::vector<data::CollatedBatch> batches = batches_of_ranks(random, group.size());
      for (RankTraining* each : {&captured, &launched, &sharded}) each->run(batches, step, true);
    }
    const std::vector<double> expected = losses(launched.update.drain());
    EXPECT_EQ(std::ranges::count(expected, -1) > 0, compute == Dtype::f16);   // overflows
    EXPECT_EQ(losses(captured.update.drain()), expected);
    EXPECT_EQ(losses(sharded.update.drain()), expected);
    EXPECT_EQ(weights_of(captured.optimizer), weights_of(launched.optimizer));
    EXPECT_EQ(weights_of(sharded.optimizer), weights_of(launched.optimizer));
    for (const RankTraining* each : {&captured, &sharded}) {
      bool is_captured = false;
      for (const StepRunner::Bucket& bucket : each->runner.histogram()) {
        EXPECT_TRUE(bucket.sizes.of_ranks);
        is_captured = is_captured || bucket.captured;
      }
      EXPECT_TRUE(is_captured);
    }
  }
}

constexpr NcclCase kCases[] = {
    {"reductions", reductions},
    {"gathers_and_broadcasts", gathers_and_broadcasts},
    {"nan_wins", nan_wins},
    {"order_with_computations", order_with_computations},
    {"order_without_a_wait", order_without_a_wait},
    {"numbers_of_the_host", numbers_of_the_host},
    {"captured_steps", captured_steps},
    {"captures_refuse_what_waits", captures_refuse_what_waits},
    {"training_steps", training_steps},
};

}  // namespace

std::span<const NcclCase> nccl_cases() { return kCases; }

void run_on_devices(const nccl::Functions& functions, const std::vector<Device>& devices,
                    const std::function<void(NcclGroup&)>& rank, const NcclOptions& options) {
  const nccl::UniqueId id = make_unique_id(functions);
  const int size = static_cast<int>(devices.size());
  std::vector<std::jthread> threads;
  for (int r = 0; r < size; ++r)
    threads.emplace_back([&, r] {
      try {
        NcclGroup group(functions, id, r, size, devices[static_cast<std::size_t>(r)], options);
        rank(group);
        group.finish();
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << r << " threw: " << error.what();
      }
    });
}

}  // namespace sinter::train::testing
