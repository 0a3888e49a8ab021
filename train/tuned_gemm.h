// tune_gemm: the table of tuned products of one train().
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "core/runtime/gemm_tuning.h"
#include "train/trainer_state.h"
#include "train/training_arguments.h"

namespace sinter::train {

/// Products that the first updates of a run meet are tuned, evaluations left out; products that are met later take the
/// heuristic's algorithm, so that a run that goes on from any later checkpoint has the bits of one that never stopped.
class TunedGemm {
 public:
  /// Updates that tune: a run's first, or the first behind a checkpoint that has no table for this GPU and library.
  static constexpr std::int64_t kUpdates = 100;
  /// In a checkpoint.
  static constexpr const char* kFile = "gemm_table.json";

  /// With tune_gemm: the table of the checkpoint, or where there is none (a fresh run, a checkpoint without one or of
  /// another GPU or library, which a line says) the cache's. Null without tune_gemm, and where the device has nothing
  /// to tune, which a line says.
  static std::unique_ptr<TunedGemm> begin(const TrainingArguments& args,
                                          const std::optional<std::filesystem::path>& checkpoint, TrainerState& state);

  /// Products are tuned as long as one lives, where the update is one of those that tune. `of` may be null.
  class Recording {
   public:
    Recording(TunedGemm* of, std::int64_t step);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

   private:
    TunedGemm* of_;
  };

  /// Keeps what was tuned for other runs, in the cache, and says how much that is. Called at the end of train(); the
  /// first update that no longer tunes does it too.
  void keep();

  const GemmTuning& tuning() const { return tuning_; }

 private:
  TunedGemm(const TrainingArguments& args, const std::optional<std::filesystem::path>& checkpoint,
            TrainerState& state);

  GemmTuning tuning_;
  std::filesystem::path cache_;
  std::int64_t ends_ = 0;       // the first update that does not tune
  std::size_t known_ = 0;       // products that keep() need not tell
};

}  // namespace sinter::train
