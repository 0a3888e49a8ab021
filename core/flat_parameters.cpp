#include "core/flat_parameters.h"

#include <algorithm>

#include "core/autograd/mode.h"
#include "core/autograd/node.h"
#include "core/error.h"
#include "kernels/adamw.h"

namespace sinter {
namespace {

constexpr std::int64_t kSegmentAlignment = 16;

std::int64_t round_up(std::int64_t n, std::int64_t granule) { return (n + granule - 1) / granule * granule; }

void check_parameter(const Parameter& parameter, const Tensor& first) {
  const Tensor& tensor = parameter.tensor;
  if (tensor.dtype() != Dtype::f32 && tensor.dtype() != Dtype::f64)
    fail(ErrorCode::unsupported, "parameter ", parameter.name, " is ", name(tensor.dtype()),
         "; flat parameters are f32 or f64");
  if (tensor.dtype() != first.dtype() || tensor.device() != first.device())
    fail(ErrorCode::usage, "parameter ", parameter.name, " is ", name(tensor.dtype()), " on ", tensor.device().str(),
         ", the first one is ", name(first.dtype()), " on ", first.device().str(), "; they must be alike");
  if (!tensor.requires_grad() || !tensor.is_leaf())
    fail(ErrorCode::usage, "parameter ", parameter.name, " does not require grad; leave frozen parameters out");
}

}  // namespace

FlatParameters FlatParameters::adopt(const std::vector<ParameterList>& groups, const FlatParameters* previous) {
  FlatParameters flat;
  std::int64_t offset = 0;
  const Tensor* first = nullptr;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    offset = round_up(offset, kernels::kFlatBlock);
    flat.group_begin_.push_back(offset);
    for (auto parameter = groups[g].rbegin(); parameter != groups[g].rend(); ++parameter) {
      if (first == nullptr) first = &parameter->tensor;
      check_parameter(*parameter, *first);
      const auto same = [&](const Segment& s) { return s.tensor.same(parameter->tensor); };
      if (const auto tied = std::find_if(flat.segments_.begin(), flat.segments_.end(), same);
          tied != flat.segments_.end()) {
        if (tied->group != static_cast<int>(g))
          fail(ErrorCode::usage, "parameter ", parameter->name, " is tied to ", tied->name,
               " and stands in another group");
        tied->aliases.push_back(std::exchange(tied->name, parameter->name));  // the first given name is the segment's
        continue;
      }
      if (flat.find(parameter->name) != nullptr) fail(ErrorCode::usage, "two parameters are called ", parameter->name);
      const std::int64_t numel = parameter->tensor.numel();
      flat.segments_.push_back({parameter->name, {}, parameter->tensor.shape(), offset, numel, static_cast<int>(g),
                                parameter->tensor.dtype(), parameter->tensor});
      offset += round_up(numel, kSegmentAlignment);
    }
  }
  if (first == nullptr) fail(ErrorCode::usage, "there are no parameters to train");

  const NoGradGuard guard;
  const TensorOptions options = first->options();
  const Shape length{round_up(offset, kernels::kFlatBlock)};
  flat.values_ = Tensor::zeros(length, options);
  flat.gradients_ = Tensor::zeros(length, options);
  for (Segment& segment : flat.segments_) {
    if (const auto& rows = segment.tensor.ensure_meta().rows; rows != nullptr && rows->make_current)
      rows->make_current(nullptr);
    flat.view(segment, flat.values_).copy_(segment.tensor.detach());
    const std::size_t size = size_of(options.dtype);
    segment.tensor.rebind_storage(std::make_shared<Storage>(flat.values_.storage(),
                                                            static_cast<std::size_t>(segment.offset) * size,
                                                            static_cast<std::size_t>(segment.numel) * size));
    autograd::Meta& meta = segment.tensor.ensure_meta();
    const Tensor old = segment.tensor.grad();
    meta.rows = nullptr;
    meta.grad = flat.view(segment, flat.gradients_);
    if (old.defined()) meta.grad.copy_(old);
    meta.grad_pinned = true;
    meta.grad_stale = !old.defined();
  }
  if (previous == nullptr) return flat;
  for (const auto& [name, state] : previous->states_)
    for (const Segment& segment : flat.segments_)
      if (const Segment* before = previous->find(segment.name); before != nullptr && before->shape == segment.shape)
        flat.view(segment, flat.state(name)).copy_(previous->view(*before, state));
  return flat;
}

Tensor& FlatParameters::state(const std::string& name) {
  Tensor& tensor = states_[name];
  if (!tensor.defined()) tensor = Tensor::zeros(values_.shape(), values_.options());
  return tensor;
}

const Segment* FlatParameters::find(const std::string& name) const {
  const auto found = std::find_if(segments_.begin(), segments_.end(), [&](const Segment& s) {
    return s.name == name || std::find(s.aliases.begin(), s.aliases.end(), name) != s.aliases.end();
  });
  return found == segments_.end() ? nullptr : &*found;
}

std::pair<std::int64_t, std::int64_t> FlatParameters::group_range(int group) const {
  const auto g = static_cast<std::size_t>(group);
  return {group_begin_.at(g), g + 1 < group_begin_.size() ? group_begin_[g + 1] : values_.numel()};
}

Tensor FlatParameters::view(const Segment& segment, const Tensor& flat) const {
  return Tensor::view_of(flat.storage(), flat.storage_offset() + segment.offset, segment.shape,
                         contiguous_strides(segment.shape), flat.dtype());
}

RowTracker& FlatParameters::track_rows(const std::string& name) {
  const Segment* const segment = find(name);
  if (segment == nullptr)
    fail(ErrorCode::usage, "there is no trained parameter ", name, " whose rows could be tracked");
  if (segment->shape.rank() != 2)
    fail(ErrorCode::usage, "parameter ", name, " is ", segment->shape, "; rows are tracked of a table [rows, columns]");
  if (tracked_rows_ != nullptr && tracked_name_ != segment->name)
    fail(ErrorCode::usage, "the rows of ", tracked_name_, " are tracked already, and those of one table can be; ", name,
         " stays without");
  if (tracked_rows_ == nullptr) {
    tracked_name_ = segment->name;
    tracked_rows_ = std::make_shared<RowTracker>(view(*segment, gradients_), segment->offset);
    autograd::Meta& meta = segment->tensor.ensure_meta();
    meta.rows = tracked_rows_;
    meta.grad_stale = false;
  }
  return *tracked_rows_;
}

void FlatParameters::zero_grad() {
  for (const Segment& segment : segments_) {
    autograd::Meta& meta = segment.tensor.ensure_meta();
    if (meta.rows != nullptr && meta.rows == tracked_rows_)
      tracked_rows_->zero();
    else
      meta.grad_stale = true;
  }
}

void FlatParameters::settle_gradients() {
  const NoGradGuard guard;
  for (const Segment& segment : segments_) {
    autograd::Meta& meta = segment.tensor.ensure_meta();
    if (std::exchange(meta.grad_stale, false)) view(segment, gradients_).zero_();
  }
}

std::vector<bool> FlatParameters::stale_gradients() const {
  std::vector<bool> stale;
  for (const Segment& segment : segments_) stale.push_back(segment.tensor.ensure_meta().grad_stale);
  return stale;
}

void FlatParameters::set_stale_gradients(const std::vector<bool>& stale) {
  for (std::size_t i = 0; i < segments_.size(); ++i) segments_[i].tensor.ensure_meta().grad_stale = stale.at(i);
}

void FlatParameters::mark_written(const char* writer) {
  for (const Segment& segment : segments_) segment.tensor.storage()->mark_written(writer);
}

}  // namespace sinter
