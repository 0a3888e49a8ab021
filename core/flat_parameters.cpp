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
  flat.state_end_ = length[0];
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
    meta.low = nullptr;
    meta.grad = flat.view(segment, flat.gradients_);
    if (old.defined()) meta.grad.copy_(old);
    meta.grad_pinned = true;
    meta.grad_stale = !old.defined();
  }
  if (previous == nullptr) return flat;
  if (previous->state_range() != std::pair<std::int64_t, std::int64_t>{0, previous->values_.numel()})
    fail(ErrorCode::unsupported, "the states of the previous parameters are shared out between ranks (keep_states_of), "
         "and cannot be carried over");
  for (const auto& [name, state] : previous->states_)
    for (const Segment& segment : flat.segments_)
      if (const Segment* before = previous->find(segment.name); before != nullptr && before->shape == segment.shape)
        flat.view(segment, flat.state(name)).copy_(previous->view(*before, state));
  return flat;
}

Tensor& FlatParameters::state(const std::string& name) {
  Tensor& tensor = states_[name];
  if (!tensor.defined()) tensor = Tensor::zeros({state_end_ - state_begin_}, values_.options());
  return tensor;
}

void FlatParameters::keep_states_of(std::int64_t begin, std::int64_t end) {
  if (begin == state_begin_ && end == state_end_) return;
  if (!states_.empty())
    fail(ErrorCode::usage, "the buffer ", states_.begin()->first, " is there already, for elements ", state_begin_,
         " to ", state_end_, "; share the states out before the first update and before they are loaded");
  state_begin_ = begin;
  state_end_ = end;
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
  if (segment->tensor.ensure_meta().low != nullptr)
    fail(ErrorCode::usage, "parameter ", name, " has a copy in 16 bits (keep_low_copy); its rows cannot be tracked");
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

void FlatParameters::keep_low_copy(Dtype low, const std::vector<std::string>& names, bool low_gradients) {
  if (low != Dtype::f16 && low != Dtype::bf16)
    fail(ErrorCode::usage, "keep_low_copy: a copy in ", kernels::name(low), "; it can be f16 or bf16");
  if (values_.dtype() != Dtype::f32)
    fail(ErrorCode::usage, "keep_low_copy: the parameters are ", kernels::name(values_.dtype()), ", they must be f32");
  if (has_low_copy()) fail(ErrorCode::usage, "keep_low_copy: the parameters have a copy in 16 bits already");
  std::vector<bool> named(segments_.size(), false);
  for (const std::string& name : names) {
    const Segment* const segment = find(name);
    if (segment == nullptr) fail(ErrorCode::usage, "there is no trained parameter ", name, " to keep a 16-bit copy of");
    if (segment->tensor.ensure_meta().rows != nullptr)
      fail(ErrorCode::usage, "the rows of ", name, " are tracked; a 16-bit copy of it is not supported");
    named[static_cast<std::size_t>(segment - segments_.data())] = segment->numel > 0;
  }
  if (std::find(named.begin(), named.end(), true) == named.end()) return;
  const NoGradGuard guard;
  const TensorOptions options{low, values_.device()};
  low_values_ = Tensor::zeros(values_.shape(), options);
  if (low_gradients) low_gradients_ = Tensor::zeros(values_.shape(), options);
  std::vector<std::int64_t> borders;   // neighbours share a range
  for (std::size_t i = 0; i < segments_.size(); ++i) {
    Segment& segment = segments_[i];
    if (!named[i]) continue;
    const std::int64_t end = segment.offset + round_up(segment.numel, kSegmentAlignment);
    if (!borders.empty() && borders.back() == segment.offset)
      borders.back() = end;
    else
      borders.insert(borders.end(), {segment.offset, end});
    autograd::Meta& meta = segment.tensor.ensure_meta();
    auto storage = std::make_shared<Storage>(low_values_.storage(), static_cast<std::size_t>(segment.offset) * 2,
                                             static_cast<std::size_t>(segment.numel) * 2);
    meta.low = std::make_shared<LowCopy>();
    meta.low->values =
        Tensor::view_of(std::move(storage), 0, segment.shape, contiguous_strides(segment.shape), low);
    meta.low->values.copy_(segment.tensor.detach());
    meta.low->version = segment.tensor.storage()->version();
    if (!low_gradients) continue;
    segment.gradient_dtype = low;
    meta.low->grad = view(segment, low_gradients_);
  }
  const auto count = static_cast<std::int64_t>(borders.size());
  low_ranges_ = Tensor::from(borders, {count}).to(values_.device());
}

FlatParameters::LowSide FlatParameters::low_side() const {
  static_assert(sizeof(kernels::FlatRange) == 2 * sizeof(std::int64_t));
  if (!has_low_copy()) return {};
  return {low_values_.data(), has_low_gradients() ? low_gradients_.data() : nullptr, low_values_.dtype(),
          {reinterpret_cast<const kernels::FlatRange*>(low_ranges_.data<std::int64_t>()),
           static_cast<int>(low_ranges_.numel() / 2)}};
}

kernels::SquaredNorm FlatParameters::squared_norm() const {
  const LowSide low = low_side();
  kernels::SquaredNorm params{.dtype = gradients_.dtype(),
                              .n = gradients_.numel(),
                              .x = gradients_.data(),
                              .low_x = low.gradients,
                              .low_dtype = low.dtype,
                              .low_ranges = low.ranges};
  if (tracked_rows_ != nullptr) params.table = tracked_rows_->touched();
  return params;
}

void FlatParameters::refresh_low_copies() {
  if (!has_low_copy()) return;
  for (const Segment& segment : segments_)
    if (LowCopy* const low = segment.tensor.ensure_meta().low.get(); low != nullptr) low->refresh(segment.tensor);
}

Tensor FlatParameters::gradient(const Segment& segment) const {
  return view(segment, segment.gradient_dtype == gradients_.dtype() ? gradients_ : low_gradients_);
}

void FlatParameters::zero_grad() {
  for (const Segment& segment : segments_) {
    autograd::Meta& meta = segment.tensor.ensure_meta();
    if (meta.rows != nullptr && meta.rows == tracked_rows_)
      tracked_rows_->zero();
    else
      meta.grad_stale = true;
    if (meta.low != nullptr) meta.low->grad_stale = true;
  }
}

void FlatParameters::settle_gradients() {
  for (const Segment& segment : segments_) settle_gradient(segment);
}

void FlatParameters::settle_gradient(const Segment& segment) {
  const NoGradGuard guard;
  autograd::Meta& meta = segment.tensor.ensure_meta();
  if (segment.gradient_dtype != gradients_.dtype())
    settle_low_gradient(segment, meta);
  else if (std::exchange(meta.grad_stale, false))
    view(segment, gradients_).zero_();
}

void FlatParameters::add_nothing() {
  settle_gradients();
  gradients_.fill_(-0.0);
}

/// What came in f32 is rounded; then nothing stands there any more.
void FlatParameters::settle_low_gradient(const Segment& segment, autograd::Meta& meta) {
  LowCopy& low = *meta.low;
  const bool none_in_low = std::exchange(low.grad_stale, false), none = std::exchange(meta.grad_stale, true);
  Tensor wide = view(segment, gradients_);
  if (none && none_in_low)
    low.grad.zero_();
  else if (!none)
    low.grad.copy_(none_in_low ? wide : wide.add_(low.grad.to(wide.dtype())));
}

std::vector<bool> FlatParameters::stale_gradients() const {
  std::vector<bool> stale;
  for (const Segment& segment : segments_) stale.push_back(segment.tensor.ensure_meta().grad_stale);
  for (const Segment& segment : segments_)
    if (const auto& low = segment.tensor.ensure_meta().low; low != nullptr) stale.push_back(low->grad_stale);
  return stale;
}

void FlatParameters::set_stale_gradients(const std::vector<bool>& stale) {
  std::size_t i = 0;
  for (const Segment& segment : segments_) segment.tensor.ensure_meta().grad_stale = stale.at(i++);
  for (const Segment& segment : segments_)
    if (const auto& low = segment.tensor.ensure_meta().low; low != nullptr) low->grad_stale = stale.at(i++);
}

void FlatParameters::mark_written(const char* writer, bool and_low_copy) {
  for (const Segment& segment : segments_) {
    segment.tensor.storage()->mark_written(writer);
    LowCopy* const low = and_low_copy ? segment.tensor.ensure_meta().low.get() : nullptr;
    if (low == nullptr) continue;
    low->values.storage()->mark_written(writer);
    low->version = segment.tensor.storage()->version();
  }
}

}  // namespace sinter
