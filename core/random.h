// Random numbers: everything is a pure function of (seed, step, site, place), so no state is ever saved.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "core/tensor.h"

namespace sinter {

/// A step's number and its first sample's ordinal, as the kernels of each device read them.
class StepCounters {
 public:
  StepCounters(std::uint32_t global_step, std::uint32_t first_sample) : values_{global_step, first_sample} {}
  /// Numbers that stand on a device already, i32 [2], and change there from step to step. Only for that device.
  explicit StepCounters(const Tensor& placed);

  /// Two numbers in the memory of `device`, moved there at the first call: the step and the first sample.
  const std::uint32_t* on(Device device) const;

 private:
  std::uint32_t values_[2] = {};
  bool placed_ = false;
  mutable std::mutex lock_;
  mutable std::vector<Tensor> moved_;   // i32 [2], one for each device that asked
};

/// Names the training step to every dropout of the calling thread for its lifetime. `first_sample` is the ordinal of
/// the batch's first sample in the global batch of the step (accumulated micro-batches and ranks included), so that a
/// sample's masks depend on neither. Dropout outside such a scope is a usage error.
///
/// Kernels read the step and the first sample from the memory of the device on which they run; a scope puts them there
/// at the first dropout on that device. A graph keeps what its dropouts need, so that backward may run after the scope.
class StepScope {
 public:
  StepScope(std::uint64_t seed, std::uint32_t global_step, std::uint32_t first_sample = 0);
  /// The step and its first sample are what stands in `counters` when the kernels run.
  StepScope(std::uint64_t seed, std::shared_ptr<const StepCounters> counters);
  ~StepScope();
  StepScope(const StepScope&) = delete;
  StepScope& operator=(const StepScope&) = delete;

  struct State {
    std::uint64_t seed = 0;
    std::uint32_t global_step = 0;    ///< these two are 0 where only the device knows them
    std::uint32_t first_sample = 0;
    std::shared_ptr<const StepCounters> counters;   ///< the two numbers where kernels read them
  };
  /// The innermost scope of the calling thread; a usage error that names `who` outside any.
  static const State& current(const char* who);
  /// The innermost scope's state, or nothing outside any.
  static std::optional<State> active();

 private:
  const State* before_;
  State state_;
};

/// Number of a dropout site from its name ("bert.encoder.layer.3.output.dropout"): FNV-1a of the text. Equal names have
/// equal masks; sites are told apart by their module's path, never by the order in which they were made.
constexpr std::uint32_t site_id(std::string_view name, std::uint32_t hash = 2166136261u) {
  for (const char c : name) hash = (hash ^ static_cast<std::uint8_t>(c)) * 16777619u;
  return hash;
}

/// site_id of the module whose forward runs (autograd::ModuleScope), extended by `suffix`.
std::uint32_t current_site(std::string_view suffix);

/// Fills a floating tensor with normal random numbers. `site` tells fills of one seed apart (use site_id of the
/// parameter's name): each element is a pure function of (seed, site, its row-major index). Box-Muller on Philox.
void normal_(Tensor& tensor, double mean, double stddev, std::uint64_t seed, std::uint32_t site);
/// The same, uniform in [low, high) before it is rounded to the dtype of the tensor.
void uniform_(Tensor& tensor, double low, double high, std::uint64_t seed, std::uint32_t site);

}  // namespace sinter
