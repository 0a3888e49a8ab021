// Rows of the word table that an update does not touch are updated when they are needed, where nobody sees the
// difference.
#include <algorithm>

#include "core/autograd/node.h"
#include "core/log.h"
#include "nn/bert.h"
#include "optim/adamw.h"
#include "train/progress_callback.h"
#include "train/step_runner.h"
#include "train/training_run.h"

namespace sinter::train {
namespace {

bool is_inside_update(CallbackHandler::Event event) {
  return event == &TrainerCallback::on_step_begin || event == &TrainerCallback::on_substep_end ||
         event == &TrainerCallback::on_pre_optimizer_step || event == &TrainerCallback::on_optimizer_step ||
         event == &TrainerCallback::on_step_end;
}

/// Callbacks of sinter's own look at no weight in any event.
bool is_own(const TrainerCallback& callback) {
  return dynamic_cast<const DefaultFlowCallback*>(&callback) != nullptr ||
         dynamic_cast<const EarlyStoppingCallback*>(&callback) != nullptr ||
         dynamic_cast<const PrinterCallback*>(&callback) != nullptr ||
         dynamic_cast<const ProgressCallback*>(&callback) != nullptr;
}

bool any_module_has_hooks(nn::Module& model) {
  const auto modules = model.named_modules();
  return std::any_of(modules.begin(), modules.end(), [](const auto& module) { return module.second->has_hooks(); });
}

/// The name under which the optimizer trains this table; empty where it does not (it is frozen), or where the table has
/// a second user, which reads it in its own way.
std::string name_of(const FlatParameters& parameters, const Tensor& table) {
  const auto& segments = parameters.segments();
  const auto found =
      std::find_if(segments.begin(), segments.end(), [&](const Segment& s) { return s.tensor.same(table); });
  return found != segments.end() && found->aliases.empty() ? found->name : "";
}

}  // namespace

void Trainer::defer_embedding(const Run& run) const {
  // With several ranks a row is touched where any of them touches it, and the marks are not exchanged.
  if (ranks().size() > 1) return;
  auto* const adamw = dynamic_cast<optim::AdamW*>(run.optimizer.get());
  auto* const bert = dynamic_cast<nn::BertForSequenceClassification*>(parts_.model.get());
  const bool ours = adamw != nullptr && parts_.optimizers.optimizer == nullptr && bert != nullptr &&
                    !parts_.compute_loss;
  if (!parts_.args.deferred_embedding_update || !ours) return;
  const Tensor table = bert->bert.embeddings.word_embeddings.weight;
  const std::string name = name_of(adamw->parameters(), table);
  if (name.empty()) return;
  const bool hooked = any_module_has_hooks(*parts_.model) || !table.ensure_meta().leaf_hooks.empty();
  if (hooked || callbacks_.any_looks_inside_steps())
    return log_info(std::string(hooked ? "a hook" : "a callback") +
                    " may look at the weights inside of updates, so every row of " + name +
                    " is updated in each, which is slower" +
                    (hooked ? "" : "; a callback whose looks_inside_steps() is false does not need that"));
  adamw->defer_rows(name);
}

void Trainer::flush_before(CallbackHandler::Event event) const {
  if (optimizer_ == nullptr) return;
  RowTracker* const rows = optimizer_->parameters().tracked_rows();
  if (rows == nullptr) return;
  const std::vector<CallbackHandler::Pointer>& all = callbacks_.all();
  if (!is_inside_update(event)) {
    if (!std::all_of(all.begin(), all.end(), [](const auto& c) { return is_own(*c); })) optimizer_->flush();
  } else if (callbacks_.any_looks_inside_steps()) {   // one that came while the run was under way
    optimizer_->flush();
    rows->mark_all();   // it may write gradients too
  }
}

}  // namespace sinter::train
