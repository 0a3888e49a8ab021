// What a Trainer does together with those of the other ranks.
#include <algorithm>
#include <array>
#include <string>

#include "core/error.h"
#include "core/log.h"
#include "train/stop_signal.h"
#include "train/training_run.h"

namespace sinter::train {
namespace {

/// Rank 0's, on every rank.
std::string broadcast(ProcessGroup& ranks, std::string text) {
  const Tensor length = Tensor::from(std::vector<std::int64_t>{std::ssize(text)}, {1});
  ranks.broadcast(length);
  text.resize(static_cast<std::size_t>(length.data<std::int64_t>()[0]));
  const Tensor bytes = Tensor::empty({std::ssize(text)}, {Dtype::u8});
  std::copy(text.begin(), text.end(), static_cast<char*>(bytes.data()));
  ranks.broadcast(bytes);
  text.assign(static_cast<const char*>(bytes.data()), text.size());
  return text;
}

}  // namespace

/// Rank 0's, which has written it; the others must see the same.
std::optional<std::filesystem::path> Trainer::agree_on_checkpoint(
    const std::optional<std::string>& resume_from_checkpoint) const {
  if (ranks().size() == 1) return find_checkpoint(resume_from_checkpoint);
  std::string path;
  if (is_world_process_zero()) path = find_checkpoint(resume_from_checkpoint).value_or("").string();
  path = broadcast(ranks(), path);
  if (path.empty()) return std::nullopt;
  if (!std::filesystem::is_directory(path))
    fail(ErrorCode::not_found, "rank ", ranks().rank(), " sees no checkpoint ", path,
         ", from which rank 0 resumes; output_dir must be one folder that all ranks see");
  return path;
}

/// Ranks whose folders have the same name and another content would go on with other data.
void Trainer::check_same_step() const {
  const std::int64_t step = state_.global_step;
  const Tensor most = Tensor::from(std::vector<std::int64_t>{step, -step}, {2});
  ranks().all_reduce(most, ReduceKind::max);
  const std::int64_t last = most.data<std::int64_t>()[0], first = -most.data<std::int64_t>()[1];
  if (first != last)
    fail(ErrorCode::usage, "the ranks resume at different steps, from ", first, " to ", last, ", and rank ",
         ranks().rank(), " at ", step, "; all must see the same checkpoint");
}

/// What decides about sizes and order of the ranks' operations, which would wait for each other for ever.
void Trainer::check_same_facts(Run& run) const {
  Json facts = run_facts(run.parts());
  facts.set("per_device_train_batch_size", run.plan.batch_size);
  facts.set("gradient_accumulation_steps", run.plan.accumulation);
  facts.set("max_steps", run.plan.max_steps);
  const Json of_rank_zero = Json::parse(broadcast(ranks(), facts.dump()), "rank 0");
  for (const auto& [name, value] : facts.items()) {
    const Json* const expected = of_rank_zero.find(name);
    if (expected == nullptr || expected->dump() != value.dump())
      fail(ErrorCode::usage, "rank ", ranks().rank(), " has ", name, " ", value.dump(), ", and rank 0 has ",
           expected == nullptr ? "none" : expected->dump(), "; all ranks need the same arguments and train_dataset");
  }
}

/// All ranks begin with the weights of rank 0, and add up their gradients.
void Trainer::join_ranks(Run& run) {
  if (ranks().size() == 1) return;
  check_same_facts(run);
  FlatParameters& parameters = run.optimizer->parameters();
  ranks().broadcast(parameters.values());
  parameters.mark_written("broadcast");
  run.reducer = std::make_unique<GradientReducer>(parameters, parts_.model->named_parameters(), ranks(),
                                                  parts_.args.ddp_bucket_cap_mb * (1 << 20));
}

/// Why operations between ranks are no part of a captured step; "" where they are.
std::string Trainer::why_not_captured() const {
  if (!ranks().can_be_captured()) return "their process_group cannot be captured";
  const data::DataCollator& collator = parts_.data_collator;
  const bool is_known = !collator || collator.target<data::DataCollatorWithPadding>() != nullptr ||
                        collator.target<data::DataCollatorWithFlattening>() != nullptr ||
                        collator.target<data::DefaultDataCollator>() != nullptr;
  return is_known ? "" : "a data_collator of one's own is given, and each rank collates the batches of all";
}

/// Every rank finds the same, without asking the others: all know the order of the data. Costs some microseconds for
/// each rank (seven, packed, on a Xeon).
std::optional<StepBucket> Trainer::bucket_of_ranks(const Run& run, std::span<const std::int64_t> rows) const {
  std::vector<data::CollatedBatch> batches;
  const auto size = static_cast<std::size_t>(run.plan.batch_size);
  for (int rank = 0; rank < ranks().size(); ++rank) {
    const std::size_t first = static_cast<std::size_t>(rank) * size;
    const std::span<const std::int64_t> rest = rows.subspan(std::min(rows.size(), first));
    batches.push_back(collate(*parts_.train_dataset, rest.first(std::min(rest.size(), size)), 0));
  }
  const auto& model = dynamic_cast<const nn::BertForSequenceClassification&>(*parts_.model);
  return train::bucket_of_ranks(batches, model.config.max_position_embeddings);
}

/// Loss and gradients are sums over the samples of an update divided by their number, so those of the ranks add up.
void Trainer::add_up(Run& run, Sums& sums) {
  if (!run.reducer) return;
  if (sums.samples == 0) run.optimizer->parameters().add_nothing();
  run.reducer->finish();
  const std::vector<double> added = ranks().all_reduce_sums(std::array{sums.loss, sums.tokens});
  sums.loss = added[0];
  sums.tokens = added[1];
  agree_on_signal();
}

void Trainer::agree_on_signal() {
  if (ranks().size() == 1) return;
  const Tensor signal = Tensor::from(std::vector<std::int32_t>{StopSignal::received()}, {1});
  ranks().all_reduce(signal, ReduceKind::max);
  agreed_signal_ = signal.data<std::int32_t>()[0];
}

int Trainer::stop_signal() const { return ranks().size() == 1 ? StopSignal::received() : agreed_signal_; }

}  // namespace sinter::train
