#include "train/ranks/nccl/nccl_group.h"

#include <cstddef>
#include <exception>
#include <limits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/reduce_ranks.h"
#include "core/runtime/kernel_error.h"
#include "core/runtime/runtime.h"
#include "core/runtime/step_arena.h"
#include "kernels/elementwise.h"

namespace sinter::train {
namespace {

using Place = NcclCommunicator::Place;

std::size_t bytes_of(std::int64_t numel, Dtype dtype) { return static_cast<std::size_t>(numel) * size_of(dtype); }

nccl::DataType data_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32: return nccl::kF32;
    case Dtype::f64: return nccl::kF64;
    case Dtype::i64: return nccl::kI64;
    case Dtype::i32: return nccl::kI32;
    default: return nccl::kU8;
  }
}

/// Numbers that stay on the device: -infinity for maxima, and the element that a barrier reduces.
struct Constants {
  double lowest_f64 = -std::numeric_limits<double>::infinity();
  float lowest_f32 = -std::numeric_limits<float>::infinity();
  std::int32_t barrier = 0;
};

}  // namespace

/// The group's stream, with its events and memory.
class NcclGroup::Lane {
 public:
  explicit Lane(Device device)
      : device_(device), api_(*Runtime::instance().backend(device).device), main_(Runtime::instance().stream(device)) {
    try {
      require(api_.create_stream(device.index(), &stream_), "making a stream", device);
      require(api_.create_event(device.index(), &ready_), "making an event", device);
      require(api_.allocate(device.index(), sizeof(Constants), &constants_), "NCCL's constants", device);
      const Constants constants;
      require(api_.copy(device.index(), constants_, &constants, sizeof constants, stream_), "NCCL's constants", device);
      wait_on_host();
    } catch (...) {
      free();
      throw;
    }
  }
  ~Lane() { free(); }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  kernels::Stream stream() const { return stream_; }
  std::byte* constant(std::size_t offset) const { return static_cast<std::byte*>(constants_) + offset; }

  /// What comes into the lane runs behind what is in the Runtime's stream.
  void follow_main() {
    require(api_.record_event(device_.index(), ready_, main_), "NCCL's stream", device_);
    require(api_.wait_event(device_.index(), stream_, ready_), "NCCL's stream", device_);
  }

  /// The end of what is in the lane now; given back to let_main_follow().
  kernels::Event end() {
    kernels::Event event;
    if (idle_.empty()) {
      require(api_.create_event(device_.index(), &event), "making an event", device_);
    } else {
      event = idle_.back();
      idle_.pop_back();
    }
    const kernels::Status status = api_.record_event(device_.index(), event, stream_);
    if (!status.ok()) idle_.push_back(event);
    require(status, "NCCL's stream", device_);
    return event;
  }

  /// What comes into the Runtime's stream runs behind the event.
  void let_main_follow(kernels::Event event) {
    const kernels::Status status = api_.wait_event(device_.index(), main_, event);
    idle_.push_back(event);
    require(status, "NCCL's stream", device_);
  }

  void copy(void* to, const void* from, std::size_t bytes) {
    require(api_.copy(device_.index(), to, from, bytes, stream_), "copy", device_);
  }
  kernels::Status try_to_wait() const { return api_.synchronize(device_.index(), stream_); }
  void wait_on_host() const { require(try_to_wait(), "waiting for NCCL", device_); }

  /// At least so many bytes of the device, for one operation.
  std::byte* scratch(std::size_t bytes) {
    if (bytes > scratch_bytes_) {
      api_.deallocate(device_.index(), std::exchange(scratch_, nullptr));
      scratch_bytes_ = 0;
      require(api_.allocate(device_.index(), bytes, &scratch_), "memory for NCCL", device_);
      scratch_bytes_ = bytes;
    }
    return static_cast<std::byte*>(scratch_);
  }

 private:
  void free() {
    api_.destroy_stream(device_.index(), stream_);   // waits for its work
    api_.destroy_event(device_.index(), ready_);
    for (const kernels::Event event : idle_) api_.destroy_event(device_.index(), event);
    api_.deallocate(device_.index(), constants_);
    api_.deallocate(device_.index(), scratch_);
  }

  Device device_;
  const kernels::DeviceApi& api_;
  kernels::Stream main_, stream_;
  kernels::Event ready_;
  std::vector<kernels::Event> idle_;
  void* constants_ = nullptr;
  void* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
};

NcclGroup::NcclGroup(const nccl::Functions& functions, const nccl::UniqueId& id, int rank, int size, Device device,
                     NcclOptions options)
    : nccl_(functions), rank_(rank), size_(size), device_(device), exceptions_(std::uncaught_exceptions()),
      lane_(std::make_unique<Lane>(device)),
      communicator_(std::make_unique<NcclCommunicator>(functions, id, rank, size, device, lane_->stream(),
                                                       std::move(options))) {}

NcclGroup::~NcclGroup() {
  if (communicator_ == nullptr || std::uncaught_exceptions() > exceptions_) return;
  try {
    finish();
  } catch (const std::exception&) {   // the others learn it too
  }
}

void NcclGroup::finish() {
  if (communicator_ == nullptr) return;
  run({});
  const std::unique_ptr<NcclCommunicator> ended = std::move(communicator_);   // whatever becomes of it
  ended->finish();
}

void NcclGroup::abandon() { communicator_.reset(); }

void NcclGroup::check_usable(const Collective& call) const {
  if (communicator_ == nullptr) fail(ErrorCode::usage, name(call.operation), " in a group that has finished");
  communicator_->check();
}

// --- Maxima of floats ---------------------------------------------------------------------------------------------

/// Of an operation that computes a maximum of floats: NaN where this rank has NaN, else -infinity. Their sum over the
/// ranks is NaN where any has it. Undefined for others.
struct NcclGroup::Nans {
  Tensor of_rank, of_all;   // as the operation's input and output
};

namespace {

kernels::Binary binary(kernels::BinaryOp op, Dtype dtype, std::int64_t numel) {
  return {.op = op, .dtype = dtype, .extents = {1, {numel}}, .a_strides = {{1}}, .b_strides = {{1}}};
}

}  // namespace

NcclGroup::Nans NcclGroup::find_nans(const Collective& call) const {
  const bool reduces = call.operation == Operation::all_reduce || call.operation == Operation::reduce_scatter;
  const bool of_floats = call.dtype == Dtype::f32 || call.dtype == Dtype::f64;
  if (!reduces || !of_floats || call.kind != ReduceKind::max || size_ == 1) return {};
  Nans nans{.of_rank = Tensor::empty({call.input_numel}, {call.dtype, device_})};
  const bool in_place = call.operation == Operation::all_reduce;
  nans.of_all = in_place ? nans.of_rank : Tensor::empty({call.output_numel}, {call.dtype, device_});
  kernels::Binary lowest = binary(kernels::BinaryOp::minimum, call.dtype, call.input_numel);
  lowest.a = call.input;
  lowest.b = lane_->constant(call.dtype == Dtype::f32 ? offsetof(Constants, lowest_f32)
                                                      : offsetof(Constants, lowest_f64));
  lowest.b_strides = {{0}};
  lowest.out = nans.of_rank.data();
  Runtime::instance().launch(device_, lowest, name(call.operation));
  return nans;
}

void NcclGroup::put_nans(const Collective& call, const Nans& nans) const {
  if (!nans.of_all.defined()) return;
  kernels::Binary highest = binary(kernels::BinaryOp::maximum, call.dtype, call.output_numel);
  highest.a = call.output;
  highest.b = nans.of_all.data();
  highest.out = call.output;
  Runtime::instance().launch(device_, highest, name(call.operation));
}

// --- Operations ---------------------------------------------------------------------------------------------------

/// An operation in the lane, or none at all: an empty one. Keeps its memory as long as it lives: a captured step takes
/// the same as when it was observed.
class NcclGroup::UnderWay final : public Work {
 public:
  UnderWay() = default;
  UnderWay(NcclGroup& group, const Collective& call, Nans nans)
      : group_(&group), call_(call), nans_(std::move(nans)), end_(group.lane_->end()) {}
  ~UnderWay() override {
    try {
      wait();
    } catch (const std::exception&) {
    }
  }

  void wait() override {
    NcclGroup* const group = std::exchange(group_, nullptr);
    if (group == nullptr) return;
    group->lane_->let_main_follow(end_);
    group->put_nans(call_, nans_);
    if (group->communicator_ != nullptr) group->communicator_->check();
  }

 private:
  NcclGroup* group_ = nullptr;   // null: nobody need wait any more
  Collective call_;
  Nans nans_;
  kernels::Event end_;
};

void NcclGroup::run(const Collective& call) {
  if (call.output_storage == nullptr) return run_on_host(call);
  begin(call)->wait();
}

std::unique_ptr<Work> NcclGroup::begin(const Collective& call) {
  check_usable(call);
  if (call.input_numel == 0) return std::make_unique<UnderWay>();
  Nans nans = find_nans(call);
  lane_->follow_main();
  enqueue(call);
  if (nans.of_rank.defined()) {
    Collective sum = call;
    sum.input = nans.of_rank.data();
    sum.output = nans.of_all.data();
    sum.kind = ReduceKind::sum;
    enqueue(sum);
  }
  return std::make_unique<UnderWay>(*this, call, std::move(nans));
}

void NcclGroup::enqueue(const Collective& call) {
  const Place place = is_captured(device_) ? Place::capture : Place::stream;
  void* const stream = lane_->stream().handle;
  const nccl::ReduceOp op = call.kind == ReduceKind::sum ? nccl::kSum : nccl::kMax;
  const auto numel = static_cast<std::size_t>(call.output_numel);
  communicator_->call(describe(call), place, [&](nccl::Communicator communicator) {
    switch (call.operation) {
      case Operation::reduce_scatter:
        return nccl_.ReduceScatter(call.input, call.output, numel, data_type(call.dtype), op, communicator, stream);
      case Operation::all_gather:
        return nccl_.AllGather(call.input, call.output, bytes_of(call.input_numel, call.dtype), nccl::kU8,
                               communicator, stream);
      case Operation::broadcast:
        return nccl_.Broadcast(call.input, call.output, bytes_of(call.output_numel, call.dtype), nccl::kU8, call.root,
                               communicator, stream);
      default:
        return nccl_.AllReduce(call.input, call.output, numel, data_type(call.dtype), op, communicator, stream);
    }
  });
}

void NcclGroup::launch(const StepGraph& step) {
  if (communicator_ == nullptr) fail(ErrorCode::usage, "a captured step was launched in a group that has finished");
  std::exception_ptr failure;
  communicator_->call("what a captured step holds", Place::stream, [&](nccl::Communicator) {
    try {
      step.launch();
      lane_->follow_main();
    } catch (...) {
      failure = std::current_exception();
    }
    return nccl::kSuccess;
  });
  if (failure) std::rethrow_exception(failure);
}

/// What ends when the host knows it.
void NcclGroup::run_on_host(const Collective& call) {
  check_usable(call);
  if (is_captured(device_))
    fail(ErrorCode::unsupported, "a captured step cannot wait for other ranks, as ",
         call.operation == Operation::barrier ? "barrier" : "all_reduce_sums", " does");
  if (call.operation != Operation::barrier) return add_host_numbers(call);
  lane_->follow_main();
  std::byte* const element = lane_->constant(offsetof(Constants, barrier));
  communicator_->call("barrier", Place::stream, [&](nccl::Communicator communicator) {
    return nccl_.AllReduce(element, element, 1, nccl::kI32, nccl::kMax, communicator, lane_->stream().handle);
  });
  const kernels::Status status = lane_->try_to_wait();
  communicator_->check();   // the better reason
  require(status, "waiting for NCCL", device_);
}

/// Every rank gets all numbers and adds them itself, in the order of the ranks.
void NcclGroup::add_host_numbers(const Collective& call) {
  const std::size_t bytes = bytes_of(call.input_numel, call.dtype), ranks = static_cast<std::size_t>(size_);
  if (bytes == 0) return;
  std::byte* const gathered = lane_->scratch((ranks + 1) * bytes);
  std::byte* const own = gathered + ranks * bytes;
  lane_->follow_main();
  lane_->copy(own, call.input, bytes);
  communicator_->call(describe(call), Place::stream, [&](nccl::Communicator communicator) {
    return nccl_.AllGather(own, gathered, bytes, nccl::kU8, communicator, lane_->stream().handle);
  });
  std::vector<std::byte> numbers(ranks * bytes);
  lane_->copy(numbers.data(), gathered, numbers.size());
  const kernels::Status status = lane_->try_to_wait();
  communicator_->check();
  require(status, "waiting for NCCL", device_);
  std::vector<const void*> inputs;
  for (std::size_t r = 0; r < ranks; ++r) inputs.push_back(numbers.data() + r * bytes);
  reduce_ranks(call.dtype, call.kind, inputs, std::span(&call.output, 1), call.input_numel);
}

}  // namespace sinter::train
