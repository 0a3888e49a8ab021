#include "core/row_tracker.h"

#include "core/autograd/mode.h"
#include "core/runtime/runtime.h"

namespace sinter {

RowTracker::RowTracker(const Tensor& gradient, std::int64_t begin)
    : gradient_(gradient), marks_(Tensor::zeros({gradient.size(0)}, {Dtype::i32, gradient.device()})), begin_(begin) {
  const NoGradGuard guard;
  gradient_.zero_();
}

void RowTracker::mark(const Tensor& ids) {
  const kernels::MarkRows params{.rows = marks_.numel(), .n = ids.numel(), .ids = ids.data<std::int64_t>(),
                                 .touched = marks_.data<std::int32_t>()};
  Runtime::instance().launch(marks_.device(), params, "mark_rows");
}

void RowTracker::mark_all() {
  const NoGradGuard guard;
  marks_.fill_(1);
}

void RowTracker::zero() {
  const kernels::ZeroRows params{.dtype = gradient_.dtype(), .rows = gradient_.size(0), .cols = gradient_.size(1),
                                 .touched = marks_.data<std::int32_t>(), .table = gradient_.data()};
  Runtime::instance().launch(marks_.device(), params, "zero_rows");
}

kernels::TouchedRows RowTracker::touched() const {
  return {.begin = begin_, .rows = gradient_.size(0), .cols = gradient_.size(1),
          .touched = marks_.data<std::int32_t>()};
}

}  // namespace sinter
