#include "bench/rank_steps.h"

#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "bench/measure.h"
#include "core/error.h"
#include "core/random.h"
#include "core/runtime/runtime.h"
#include "optim/clip.h"
#include "optim/groups.h"
#include "train/inputs.h"

namespace sinter::bench {
namespace {

constexpr std::uint64_t kSeed = 42;
constexpr const char* kWordTable = "bert.embeddings.word_embeddings.weight";

/// Loss, samples and tokens, as the Trainer's ranks add them up, and then the signal on which they agree.
void exchange_sums(ProcessGroup& ranks, const data::CollatedBatch& batch, double loss) {
  const std::array sums{loss, static_cast<double>(batch.sample_count), static_cast<double>(batch.token_count)};
  static_cast<void>(ranks.all_reduce_sums(sums));
  ranks.all_reduce(Tensor::zeros({1}, {.dtype = Dtype::i32}), ReduceKind::max);
}
constexpr std::array kSmallBytes{3.0 * sizeof(double), 1.0 * sizeof(std::int32_t)};

}  // namespace

/// The group of a rank that sends nothing, and notes when it would have.
class RankSteps::ReadyClock final : public ProcessGroup {
 public:
  explicit ReadyClock(Device device) : device_(device) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  Device device() const override { return device_; }

  const std::vector<Bucket>& noted() const { return noted_; }   // times of the steady clock

 private:
  struct Done final : Work {
    void wait() override {}
  };
  void run(const Collective&) override {}
  std::unique_ptr<Work> begin(const Collective& call) override {
    Runtime::instance().synchronize(device_);
    const auto bytes = static_cast<double>(call.input_numel) * static_cast<double>(size_of(call.dtype));
    noted_.push_back({seconds_now(), bytes});
    return std::make_unique<Done>();
  }

  Device device_;
  std::vector<Bucket> noted_;
};

RankSteps::RankSteps(nn::BertForSequenceClassification& model, const RankBatches& batches, Sharing sharing)
    : model_(model), batches_(batches), sharing_(std::move(sharing)),
      device_(model.bert.embeddings.word_embeddings.weight.device()),
      optimizer_(optim::decay_groups(model.named_parameters(), /*weight_decay=*/0.01), {.lr = 5e-5}) {
  if (sharing_.defers_rows) optimizer_.defer_rows(kWordTable);
  if (sharing_.ranks == nullptr) return;
  if (sharing_.shards_states) optimizer_.shard_states(sharing_.ranks);
  sharing_.ranks->broadcast(optimizer_.parameters().values());
  reducer_ = std::make_unique<train::GradientReducer>(optimizer_.parameters(), model.named_parameters(),
                                                      *sharing_.ranks, sharing_.bucket_bytes);
}

std::int64_t RankSteps::gradient_bytes() {
  const Tensor& gradients = optimizer_.parameters().gradients();
  return gradients.numel() * static_cast<std::int64_t>(size_of(gradients.dtype()));
}

double RankSteps::now(bool waits) const {
  if (waits) Runtime::instance().synchronize(device_);
  return seconds_now();
}

/// The gradients of the next batch, summed over the ranks where there is a reducer.
RankSteps::Ends RankSteps::differentiate(train::GradientReducer* reducer, bool waits) {
  const data::CollatedBatch& batch = batches_.parts[step_ % batches_.parts.size()];
  const StepScope scope(kSeed, step_++, static_cast<std::uint32_t>(batch.first_sample));
  optimizer_.zero_grad();
  const nn::BertOutput output = model_(train::to_inputs(batch, static_cast<double>(batches_.samples)));
  Ends ends;
  ends.forward = now(waits);
  {
    std::optional<train::GradientReducer::Overlap> overlap;
    if (reducer != nullptr) overlap.emplace(*reducer);
    output.loss.backward();
  }
  loss_ = output.loss.item();
  ends.backward = now(waits);
  if (reducer != nullptr) reducer->finish();
  if (sharing_.ranks != nullptr) exchange_sums(*sharing_.ranks, batch, loss_);
  return ends;
}

void RankSteps::update() {
  const optim::GradNorm norm = optim::clip_grad_norm(optimizer_.parameters(), /*max_norm=*/1);
  if (norm.nonfinite || !std::isfinite(loss_))
    fail(ErrorCode::diverged, "step ", step_, " has loss ", loss_, " and gradient norm ", norm.norm);
  optimizer_.step(norm.coefficient);
}

void RankSteps::run(std::int64_t steps) {
  for (std::int64_t step = 0; step < steps; ++step) {
    differentiate(reducer_.get(), false);
    update();
  }
  Runtime::instance().synchronize(device_);
}

StepParts RankSteps::run_apart() {
  if (sharing_.ranks != nullptr) fail(ErrorCode::internal, "run_apart() is for a rank that is alone");
  ReadyClock clock(device_);
  train::GradientReducer reducer(optimizer_.parameters(), model_.named_parameters(), clock, sharing_.bucket_bytes);
  const double begin = now(true);
  const Ends ends = differentiate(&reducer, true);
  update();
  const double end = now(true);
  StepParts parts{.forward = ends.forward - begin, .backward = ends.backward - ends.forward,
                  .update = end - ends.backward, .buckets = clock.noted(),
                  .small = {kSmallBytes.begin(), kSmallBytes.end()}};
  for (Bucket& bucket : parts.buckets) bucket.ready -= ends.forward;
  return parts;
}

}  // namespace sinter::bench
