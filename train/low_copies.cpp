// Weights of products in mixed precision: the optimizer writes their 16-bit copies, and reads their gradients in f16.
#include <algorithm>

#include "nn/layers.h"
#include "optim/adamw.h"
#include "train/training_run.h"

namespace sinter::train {

void Trainer::keep_low_copies(const Run& run) const {
  const TrainingArguments& args = parts_.args;
  auto* const adamw = dynamic_cast<optim::AdamW*>(run.optimizer.get());
  if ((!args.fp16 && !args.bf16) || adamw == nullptr || parts_.optimizers.optimizer != nullptr) return;
  std::vector<std::string> names;
  const std::vector<Segment>& segments = adamw->parameters().segments();
  for (const auto& [path, module] : parts_.model->named_modules()) {
    const auto* const linear = dynamic_cast<const nn::Linear*>(module);
    if (linear == nullptr) continue;
    const auto found = std::find_if(segments.begin(), segments.end(),
                                    [&](const Segment& s) { return s.tensor.same(linear->weight); });
    // A frozen weight has no segment; one with a second name is read by others too, in f32.
    if (found != segments.end() && found->aliases.empty()) names.push_back(found->name);
  }
  // A sum over micro-batches or ranks is not taken in 16 bits, and bf16 gradients would lose 16 of their 24 bits.
  adamw->parameters().keep_low_copy(args.fp16 ? Dtype::f16 : Dtype::bf16, names,
                                    args.fp16 && run.plan.accumulation * run.plan.ranks == 1);
}

}  // namespace sinter::train
