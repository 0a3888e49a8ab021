#include "optim/optimizer.h"

#include <algorithm>
#include <cmath>

#include "core/autograd/mode.h"
#include "core/error.h"

namespace sinter::optim {
namespace {

FlatParameters adopt(const std::vector<ParameterGroup>& groups) {
  std::vector<ParameterList> lists;
  for (const ParameterGroup& group : groups) lists.push_back(group.parameters);
  return FlatParameters::adopt(lists);
}

std::vector<ParameterGroup> without_empty(std::vector<ParameterGroup> groups) {
  std::erase_if(groups, [](const ParameterGroup& group) { return group.parameters.empty(); });
  return groups;
}

}  // namespace

Optimizer::Optimizer(const char* name, double lr, std::vector<const char*> states, std::vector<ParameterGroup> groups)
    : name_(name), lr_(lr), states_(std::move(states)), flat_(adopt(groups = without_empty(std::move(groups)))) {
  const auto require = [&](const char* field, double value) {
    if (!(value >= 0 && std::isfinite(value)))
      fail(ErrorCode::usage, name, ": ", field, " is ", value, ", it must be finite and not negative");
  };
  require("lr", lr);
  for (const ParameterGroup& group : groups) {
    require("weight_decay", group.weight_decay);
    group_factors_.emplace_back(group.weight_decay, group.lr_scale);
  }
}

std::vector<Optimizer::GroupRange> Optimizer::group_ranges() const {
  std::vector<GroupRange> ranges;
  const auto [first, last] = flat_.state_range();
  for (int g = 0; g < flat_.group_count(); ++g) {
    const auto [group_begin, group_end] = flat_.group_range(g);
    const std::int64_t begin = std::max(group_begin, first), end = std::min(group_end, last);
    const auto& [weight_decay, lr_scale] = group_factors_[static_cast<std::size_t>(g)];
    if (begin < end) ranges.push_back({g, begin - first, end - first, lr_ * lr_scale, weight_decay});
  }
  return ranges;
}

Tensor Optimizer::own(const Tensor& flat) const {
  const auto [begin, end] = flat_.state_range();
  return flat.narrow(0, begin, end - begin);
}

void Optimizer::check_drained(const char* what) const {
  if (undrained_ > 0)
    fail(ErrorCode::usage, what, ": ", undrained_, undrained_ == 1 ? " update" : " updates",
         " of a QueuedUpdate ", undrained_ == 1 ? "was" : "were", " not drained; call its drain() before");
}

void Optimizer::step(double clip_coefficient) {
  if (!std::isfinite(clip_coefficient))
    fail(ErrorCode::usage, name_, "::step: the clip coefficient is ", clip_coefficient,
         ", it must be finite; the gradients hold inf or NaN (GradNorm::nonfinite), and the weights are untouched");
  check_drained((std::string(name_) + "::step").c_str());
  if (flat_.has_low_gradients() && (!knows_low_side() || is_sharded()))
    fail(ErrorCode::unsupported, name_, "::step: gradients are kept in 16 bits, which only AdamW reads that is not "
         "sharded; call keep_low_copy without low_gradients");
  const NoGradGuard guard;
  flat_.settle_gradients();
  ++steps_;
  try {
    update(clip_coefficient);
  } catch (...) {
    --steps_;
    throw;
  }
  if (is_sharded()) share_values();
  flat_.mark_written(name_, knows_low_side() && !is_sharded());
}

// --- States that ranks share out ----------------------------------------------------------------------------------

namespace {

/// Elements of each rank but the last, which has what is left too.
std::int64_t shard_size(std::int64_t numel, int ranks) {
  return numel / kernels::kFlatBlock / ranks * kernels::kFlatBlock;
}

/// Elements that travel at once for a checkpoint.
constexpr std::int64_t kPiece = std::int64_t{4} << 20;

}  // namespace

void Optimizer::shard_states(std::shared_ptr<ProcessGroup> ranks) {
  if (flat_.tracked_rows() != nullptr)
    fail(ErrorCode::usage, name_, "::shard_states: rows of a table are updated late, which ranks that share the states "
         "out do not know; leave defer_rows out");
  const std::int64_t size = shard_size(flat_.numel(), ranks->size()), begin = ranks->rank() * size;
  const bool is_last = ranks->rank() + 1 == ranks->size();
  flat_.keep_states_of(begin, is_last ? flat_.numel() : begin + size);
  ranks_ = std::move(ranks);
}

void Optimizer::share_values() {
  const std::int64_t size = shard_size(flat_.numel(), ranks_->size()), even = size * ranks_->size();
  const Tensor values = flat_.values().detach();
  if (size > 0) ranks_->all_gather(values.narrow(0, ranks_->rank() * size, size), values.narrow(0, 0, even));
  if (even < flat_.numel()) ranks_->broadcast(values.narrow(0, even, flat_.numel() - even), ranks_->size() - 1);
}

/// The whole buffer [N] on rank 0's CPU; undefined on other ranks. In pieces, so that these need no room for it.
Tensor Optimizer::whole_state(const char* state) {
  const std::int64_t size = shard_size(flat_.numel(), ranks_->size());
  const TensorOptions options{flat_.values().dtype(), Device::cpu()};
  Tensor whole;
  if (ranks_->rank() == 0) whole = Tensor::empty({flat_.numel()}, options);
  for (int rank = 0; rank < ranks_->size(); ++rank) {
    const std::int64_t first = rank * size, last = rank + 1 == ranks_->size() ? flat_.numel() : first + size;
    for (std::int64_t begin = first; begin < last; begin += kPiece) {
      const std::int64_t count = std::min(kPiece, last - begin);
      Tensor piece = whole.defined() ? whole.narrow(0, begin, count) : Tensor::empty({count}, options);
      if (ranks_->rank() == rank) piece.copy_(flat_.state(state).narrow(0, begin - first, count));
      ranks_->broadcast(piece, rank);
    }
  }
  return whole;
}

std::vector<std::pair<std::string, Tensor>> Optimizer::state_tensors() {
  flush();
  const NoGradGuard guard;
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const char* state : states_) {
    const Tensor whole = is_sharded() ? whole_state(state) : flat_.state(state);
    if (!whole.defined()) continue;
    for (const Segment& segment : flat_.segments())
      tensors.emplace_back(std::string(state) + "." + segment.name, flat_.view(segment, whole));
  }
  return tensors;
}

void Optimizer::load_state(const std::function<Tensor(const std::string&)>& read, std::int64_t steps) {
  check_drained((std::string(name_) + "::load_state").c_str());
  flush();
  const NoGradGuard guard;
  const auto [first, last] = flat_.state_range();
  for (const char* state : states_)
    for (const Segment& segment : flat_.segments()) {
      const std::string name = std::string(state) + "." + segment.name;
      const Tensor source = read(name);
      if (source.shape() != segment.shape || source.dtype() != flat_.values().dtype())
        fail(ErrorCode::bad_input, "optimizer state ", name, " is ", kernels::name(source.dtype()), " ",
             source.shape(), ", the parameter is ", kernels::name(flat_.values().dtype()), " ", segment.shape);
      const std::int64_t begin = std::max(segment.offset, first), end = std::min(segment.offset + segment.numel, last);
      if (begin >= end) continue;
      Tensor target = flat_.state(state).narrow(0, begin - first, end - begin);
      target.copy_(source.reshape({segment.numel}).narrow(0, begin - segment.offset, end - begin));
    }
  steps_ = steps;
  loaded();
}

}  // namespace sinter::optim
