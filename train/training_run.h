// What lives as long as one Trainer::train. Private to the Trainer.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "data/sampler.h"
#include "optim/loss_scaler.h"
#include "optim/optimizer.h"
#include "optim/plateau.h"
#include "train/checkpoint.h"
#include "train/ranks/gradient_reducer.h"
#include "train/trainer.h"
#include "train/tuned_gemm.h"

namespace sinter::train {

/// Updates without a finite loss and gradient that end a run when they come in a row, without a loss scale.
std::int64_t most_nonfinite_in_a_row(const TrainingArguments& args);

/// Of one rank in an update; add_up() makes loss and tokens those of all.
struct Trainer::Sums {
  double loss = 0, samples = 0, tokens = 0;
};

struct Trainer::Run {
  /// Callbacks see the optimizer until the run goes, however it ends.
  Run(Trainer& owner, std::shared_ptr<optim::Optimizer> its_optimizer)
      : trainer(owner), optimizer(std::move(its_optimizer)) {
    trainer.optimizer_ = optimizer.get();
  }
  ~Run() { trainer.optimizer_ = nullptr; }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  RunParts parts() {
    const auto& tokenizer = trainer.parts_.tokenizer;
    return {*trainer.parts_.model, *optimizer, trainer.state_, trainer.parts_.args, tokenizer ? &*tokenizer : nullptr,
            *trainer.parts_.train_dataset, plateau ? &*plateau : nullptr,
            scaler ? &*scaler : nullptr, gemm.get()};
  }

  Trainer& trainer;
  std::shared_ptr<optim::Optimizer> optimizer;
  TrainPlan plan;
  std::int64_t rates_told_until = 0;                      // scheduler_steps for which the device has a learning rate
  double base_lr = 0;                                     // that the schedule's factor multiplies
  std::function<double(std::int64_t)> factor;             // of base_lr; empty with a plateau
  std::optional<optim::ReduceLrOnPlateau> plateau;
  std::optional<optim::LossScaler> scaler;                // with fp16
  std::unique_ptr<GradientReducer> reducer;               // with several ranks
  std::unique_ptr<TunedGemm> gemm;                        // with tune_gemm, where there is something to tune
  std::unique_ptr<optim::QueuedUpdate> queued;            // these two on CUDA devices, unless somebody looks inside
  std::unique_ptr<StepRunner> runner;                     //   a step
  std::unique_ptr<data::Sampler> sampler;
  std::span<const std::int64_t> labels;                   // that the loss counts; empty: every sample
  double flos_per_token = 0;
  bool ranks_in_steps = false;                            // the runner's steps hold the operations between ranks
  double own_tokens = 0;                                  // that this rank has counted since the last settle()
  double seconds_before = 0;                              // of earlier sessions
  std::chrono::steady_clock::time_point begun;
  bool unsaved = false;                                   // the state has changed since the last checkpoint
};

}  // namespace sinter::train
