// What scale_bench says of ranks that train together: what they exchange and how fast, what a step takes beside that of
// one rank alone, and what the model (scale_model.h) makes of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/figures.h"
#include "bench/scale_model.h"
#include "core/io/json.h"

namespace sinter::bench {

/// One operation of one size; seconds of the slowest rank.
struct CollectiveTime {
  std::string operation{};    ///< "all_reduce"
  std::int64_t bytes = 0;     ///< S of bus_factor()
  Spread seconds{};

  double algbw() const { return static_cast<double>(bytes) / seconds.median; }   ///< bytes a second
};

/// Steps of all ranks; seconds of the slowest rank, communication of a step as CollectiveTrace saw it, the mean of all
/// ranks. What is under way may also wait for a rank that comes later.
struct StepTime {
  Spread seconds{};
  double under_way = 0, hidden = 0;

  double hidden_share() const { return under_way > 0 ? hidden / under_way : 0; }
};

/// Weak scaling (every rank has a batch as one alone has) or strong scaling (the ranks share out that batch).
struct Scaling {
  std::string name{};                                ///< "weak"
  std::int64_t samples = 0;                          ///< of a step, all ranks together
  std::int64_t fewest_tokens = 0, most_tokens = 0;   ///< of a rank
  StepParts parts{};       ///< of the slowest rank, while all compute at once and nothing is exchanged
  Spread compute{};        ///< seconds of these steps
  StepTime overlapped{}, after{}, zero{};   ///< buckets beside backward; all behind it; ZeRO stage 1 with such buckets
};

struct ScaleReport {
  std::string device{}, backend{}, job{};
  int ranks = 1, threads = 1;            ///< threads of a rank
  std::int64_t bucket_mib = 0;
  std::int64_t gradient_bytes = 0;       ///< of the flat buffer
  bool several_nodes = false;            ///< that these ranks stand on
  bool is_emulated = false;              ///< a device whose times say nothing of a GPU
  std::vector<CollectiveTime> collectives{};
  std::int64_t alone_samples = 0;
  Spread alone{}, alone_deferring{};     ///< seconds of a step of one rank; with rows of the word table that wait
  std::vector<Scaling> scalings{};       ///< weak, strong
  Network network{};                     ///< `inside` from fit(), the rest is assumed
};

/// To the all_reduces.
Line fit(const std::vector<CollectiveTime>& collectives);

/// A step as the model has it, and as it was measured.
struct PredictedStep {
  std::string scaling{}, gradients{};
  int ranks = 1;
  std::int64_t samples = 0;
  Prediction prediction{};
  std::optional<double> measured{};   ///< seconds
};
/// Every step of the ranks that were measured, and weak scaling over 8 and 64 ranks.
std::vector<PredictedStep> predictions(const ScaleReport& report);
/// Everything that the predictions take for granted, a sentence each.
std::vector<std::string> assumptions(const ScaleReport& report);

/// Everything in Markdown.
std::string markdown(const ScaleReport& report);
Json to_json(const ScaleReport& report);

}  // namespace sinter::bench
