// What a Trainer does together with those of the other ranks.
#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <string_view>

#include "core/error.h"
#include "core/runtime/runtime.h"
#include "train/stop_signal.h"
#include "train/training_run.h"

namespace sinter::train {
namespace {

/// What rank `root` says, on every rank.
std::string broadcast(ProcessGroup& ranks, std::string text, int root = 0) {
  const Tensor length = Tensor::from(std::vector<std::int64_t>{std::ssize(text)}, {1});
  ranks.broadcast(length, root);
  text.resize(static_cast<std::size_t>(length.data<std::int64_t>()[0]));
  const Tensor bytes = Tensor::empty({std::ssize(text)}, {Dtype::u8});
  std::copy(text.begin(), text.end(), static_cast<char*>(bytes.data()));
  ranks.broadcast(bytes, root);
  text.assign(static_cast<const char*>(bytes.data()), text.size());
  return text;
}

/// Arguments in which ranks may differ.
constexpr std::string_view kOwn[] = {"output_dir", "overwrite_output_dir", "resume_from_checkpoint", "disable_tqdm",
                                     "device", "use_cpu"};

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

std::string Trainer::first_of_ranks(const std::string& said) const {
  const std::int32_t before_end = said.empty() ? 0 : ranks().size() - ranks().rank();
  const Tensor first = Tensor::from(std::vector<std::int32_t>{before_end}, {1});
  ranks().all_reduce(first, ReduceKind::max);
  const std::int32_t found = first.data<std::int32_t>()[0];
  return found == 0 ? "" : broadcast(ranks(), said, ranks().size() - found);
}

/// Ranks that differ would wait for each other for ever, or train what nobody asked for.
void Trainer::check_same_facts(Run& run) const {
  Json facts = run_facts(run.parts());
  const Json arguments = parts_.args.to_json();
  for (const auto& [name, value] : arguments.items())
    if (facts.find(name) == nullptr && std::ranges::find(kOwn, name) == std::end(kOwn)) facts.set(name, value);
  // Each rank computes the norm of the gradients and the update, to whose bits the order of sums belongs.
  if (Device::parse(parts_.args.device).is_cpu())
    facts.set("cpu_isa", std::string(Runtime::instance().backend(Device::cpu()).description));
  const Json of_rank_zero = Json::parse(broadcast(ranks(), facts.dump()), "rank 0");
  std::string difference;
  for (const auto& [name, value] : facts.items()) {
    const Json* const expected = of_rank_zero.find(name);
    const std::string other = expected == nullptr ? "none" : expected->dump();
    if (difference.empty() && other != value.dump())
      difference = "rank " + std::to_string(ranks().rank()) + " has " + name + " " + value.dump() +
                   ", and rank 0 has " + other + "; all ranks need the same arguments and train_dataset";
  }
  if (const std::string found = first_of_ranks(difference); !found.empty()) fail(ErrorCode::usage, found);
}

/// Ranks share a data set's batches out, which would be those of another one.
void Trainer::check_same_dataset(const data::Dataset& dataset) const {
  if (ranks().size() == 1) return;
  const std::string mine = fingerprint(dataset), of_rank_zero = broadcast(ranks(), mine);
  std::string difference;
  if (mine != of_rank_zero)
    difference = "rank " + std::to_string(ranks().rank()) + " evaluates or predicts other samples than rank 0 (" +
                 "SHA-256 " + mine + " and " + of_rank_zero + "); all ranks need the same data set";
  if (const std::string found = first_of_ranks(difference); !found.empty()) fail(ErrorCode::usage, found);
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

/// Why the runner's steps do not hold the operations between ranks; "" where they do.
std::string Trainer::why_not_in_steps() const {
  if (!ranks().can_be_captured()) return "their process_group cannot be captured";
  if (const Device device = Device::parse(parts_.args.device); ranks().device() != device)
    return "their process_group is on " + ranks().device().str() + ", and the model on " + device.str();
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
