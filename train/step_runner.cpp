#include "train/step_runner.h"

#include <algorithm>

#include "core/error.h"
#include "train/inputs.h"
#include "train/loss.h"

namespace sinter::train {

StepRunner::StepRunner(const nn::BertForSequenceClassification& model, optim::AdamW& optimizer,
                       optim::QueuedUpdate& update, Options options)
    : model_(model),
      optimizer_(optimizer),
      update_(update),
      options_(options),
      device_(optimizer.parameters().values().device()),
      arena_(device_),
      arena_of_ranks_(device_) {}

void StepRunner::run(const data::CollatedBatch& batch, const MicroStep& place) {
  // What is captured alone, or looked at for it, holds no operation between ranks.
  std::optional<GradientReducer::Overlap> overlap;
  if (options_.reducer != nullptr && place.last && !options_.cuda_graphs) overlap.emplace(*options_.reducer);
  PackedBatch packed;
  if (!pack(batch, packed)) return run_as_it_is(batch, place);
  StepBucket bucket = place.of_ranks.value_or(bucket_of(std::ssize(packed.ids), longest_of(packed), batch.sample_count,
                                                        model_.config.max_position_embeddings));
  bucket.first = place.first;
  bucket.last = update_follows(place);
  Program& chosen = program(bucket);
  const StepNumbers numbers{place.global_step, static_cast<std::uint32_t>(batch.first_sample), 1 / place.num_items};
  chosen.inputs->fill(packed, numbers, model_);
  run_program(bucket, chosen);
}

StepRunner::Program& StepRunner::program(const StepBucket& bucket) {
  if (const auto found = programs_.find(bucket); found != programs_.end()) return found->second;
  if (programs_.size() >= options_.most_buckets) {
    std::string counts;
    for (const Bucket& each : histogram())
      counts += "\n  " + std::to_string(each.batches) + " x " + each.sizes.str();
    fail(ErrorCode::unsupported, "the batches come in more than ", options_.most_buckets,
         " sizes, too many for a graph each; set cuda_graphs to false, or train_sampling_strategy to group_by_length",
         counts);
  }
  auto inputs = std::make_unique<StepInputs>(device_, bucket, model_.config.pad_token_id,
                                             optimizer_.parameters().values().dtype());
  Program& made = programs_[bucket];
  made.inputs = std::move(inputs);
  return made;
}

void StepRunner::run_program(const StepBucket& bucket, Program& program) {
  ++program.batches;
  if (bucket.last) update_.flush_when_due();
  optimizer_.parameters().refresh_low_copies();   // of weights that somebody wrote since: no part of the step
  StepArena& arena = bucket.of_ranks ? arena_of_ranks_ : arena_;
  if (program.graph && arena.holds(program.graph)) {
    launch(bucket, program);
    optimizer_.parameters().set_stale_gradients(program.stale_gradients);
    if (bucket.last) update_.count_replay();
    return;
  }
  const auto step = [&] {
    const StepScope scope(options_.seed, program.inputs->counters());
    compute(program.inputs->arrays(), bucket);
  };
  if (!options_.cuda_graphs) return step();
  // What a first run makes once and keeps (a table of a library, say) the second does not make again. Of ranks it may
  // be that one alone has made it already, in a micro-batch of its own.
  constexpr std::int64_t kObserved = 2;
  const bool looks_again = bucket.of_ranks || (program.plan && !program.plan->kept.empty());
  if (!program.plan || (looks_again && program.batches <= kObserved)) {
    program.plan = arena.observe(step);
    program.stale_gradients = optimizer_.parameters().stale_gradients();
    return;
  }
  program.graph = arena.capture(*program.plan, step);
  launch(bucket, program);
}

void StepRunner::launch(const StepBucket& bucket, const Program& program) {
  if (bucket.of_ranks)
    options_.reducer->ranks().launch(program.graph);
  else
    program.graph.launch();
}

void StepRunner::run_as_it_is(const data::CollatedBatch& batch, const MicroStep& place) {
  const StepScope scope(options_.seed, place.global_step, static_cast<std::uint32_t>(batch.first_sample));
  if (update_follows(place)) update_.flush_when_due();
  compute(to_inputs(batch, place.num_items), {.first = place.first, .last = update_follows(place)});
}

void StepRunner::finish_update(bool has_gradient) {
  if (!has_gradient) {
    optimizer_.zero_grad();
    optimizer_.parameters().add_nothing();
  }
  add_up();
  update_.flush_when_due();
  update_.run();
}

void StepRunner::add_up() {
  options_.reducer->finish();
  options_.reducer->ranks().all_reduce(update_.loss());
}

void StepRunner::compute(const nn::BertInputs& arrays, const StepBucket& place) {
  if (place.first) optimizer_.zero_grad();
  const ModelOutput output = classification_loss(model_, arrays, options_.label_smoothing);
  {
    std::optional<GradientReducer::Overlap> overlap;
    if (place.of_ranks) overlap.emplace(*options_.reducer);
    output.loss.backward(update_.loss_gradient());
  }
  update_.add_loss(output.loss);
  if (place.of_ranks) add_up();
  if (place.last) update_.run();
}

std::vector<StepRunner::Bucket> StepRunner::histogram() const {
  std::vector<Bucket> buckets;
  for (const auto& [sizes, program] : programs_)
    if (program.batches > 0) buckets.push_back({sizes, program.batches, static_cast<bool>(program.graph)});
  std::stable_sort(buckets.begin(), buckets.end(),
                   [](const Bucket& a, const Bucket& b) { return a.batches > b.batches; });
  return buckets;
}

}  // namespace sinter::train
