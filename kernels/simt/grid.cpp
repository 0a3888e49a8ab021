#include "kernels/simt/grid.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <utility>

#include "kernels/simt/checker.h"
#include "kernels/simt/fiber.h"

namespace sinter::kernels::simt {

constinit thread_local Thread* current_thread = nullptr;
constinit thread_local BlockPosition current_block;

namespace {

constexpr int kShownThreads = 6;

std::string text_of(const Place& place) {
  const std::string file = place.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(place.line());
}

bool same(const Place& a, const Place& b) { return a.line() == b.line() && a.file_name() == b.file_name(); }

}  // namespace

Grid& Grid::of_this_thread() {
  static thread_local Grid grid;
  return grid;
}

std::uint64_t Grid::random() {  // xorshift64
  random_state_ ^= random_state_ << 13;
  random_state_ ^= random_state_ >> 7;
  random_state_ ^= random_state_ << 17;
  return random_state_;
}

std::string Grid::run(Device& device, const Launch& launch) {
  device_ = &device;
  launch_ = &launch;
  fault_ = nullptr;
  random_state_ = device.options.seed * 0x9e3779b97f4a7c15ull | 1;
  if (main_ == nullptr) main_ = std::make_unique<Fiber>();
  const std::size_t count = launch.block.count();
  threads_.resize(count);
  start_order_.resize(count);
  ready_.resize(count + 1);
  warps_.resize((count + kWarpLanes - 1) / kWarpLanes);
  at_barrier_.reserve(count);
  current_block.block_dim = launch.block;
  current_block.grid_dim = launch.grid;
  Checker* const checker = device.memory().checker();
  if (checker != nullptr) {
    checker->begin_launch();
    checker->allow(launch.arguments.get(), launch.argument_bytes);
    checker->allow(threads_.data(), count * sizeof(Thread));
    checker->allow(&current_block, sizeof current_block);
    checker->allow(&current_thread, sizeof current_thread);
    for (const auto& fiber : fibers_) checker->allow(fiber->stack(), fiber->stack_bytes());
  }
  const std::uint64_t blocks = launch.grid.count();
  std::vector<std::uint64_t> order;
  if (device.options.order != Order::in_order) {
    for (std::uint64_t i = 0; i < blocks; ++i) order.push_back(blocks - 1 - i);
    if (device.options.order == Order::random)
      for (std::uint64_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  }
  std::string report;
  {
    const DeviceMemory::AccessScope scope(device.memory());
    for (std::uint64_t i = 0; i < blocks && fault_ == nullptr; ++i) begin_block(order.empty() ? i : order[i]);
    if (fault_ != nullptr) {
      const Index3 block = current_block.block, thread = current_thread != nullptr ? current_thread->index : Index3{};
      char where[128];
      std::snprintf(where, sizeof where, " [block %u,%u,%u, thread %u,%u,%u]", block.x, block.y, block.z, thread.x,
                    thread.y, thread.z);
      report = fault_;
      if (fault_place_ != nullptr) report += " at " + text_of(*fault_place_);
      report += where;
      if (fault_describe_ == Describe::threads) report += describe_threads();
      idle_.clear();
      for (const auto& fiber : fibers_) {
        fiber->restart();
        idle_.push_back(fiber.get());
      }
    }
  }
  current_thread = nullptr;
  return report;
}

/// Runs one block to its end, or to a fault.
void Grid::begin_block(std::uint64_t number) {
  const Extent3 grid = launch_->grid, block = launch_->block;
  current_block.block = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                         static_cast<unsigned>(number / grid.x / grid.y)};
  for (Warp& warp : warps_) warp = Warp{};
  const Order order = device_->options.order;
  const auto count = static_cast<std::uint32_t>(threads_.size());
  for (std::uint32_t i = 0; i < count; ++i) {
    Thread& thread = threads_[i];
    Warp& warp = warps_[i / kWarpLanes];
    thread.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    thread.linear = i;
    thread.lane = i % kWarpLanes;
    thread.warp = &warp;
    thread.state = Thread::State::fresh;
    thread.barriers = thread.warp_syncs = thread.copy_group = 0;
    thread.fenced = false;
    thread.copies.clear();
    warp.existing |= 1u << thread.lane;
    warp.lanes[thread.lane] = &thread;
    start_order_[i] = order == Order::reverse ? count - 1 - i : i;
  }
  if (order == Order::random)
    for (std::uint32_t i = count; i > 1; --i) std::swap(start_order_[i - 1], start_order_[random() % i]);
  started_ = ready_begin_ = ready_count_ = 0;
  alive_ = count;
  at_barrier_.clear();
  barrier_count_ = 0;
  device_->statistics.threads += count;
  shared_.begin_block(launch_->dynamic_shared_bytes, device_->most_shared_bytes(launch_->kernel));
  if (Checker* checker = device_->memory().checker())
    checker->begin_block(shared_.statics(), kStaticSharedBytes, shared_.dynamic_array(), launch_->dynamic_shared_bytes);
  running_ = main_.get();
  switch_to(idle_fiber());
}

Fiber& Grid::idle_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(fiber_body, static_cast<unsigned>(fibers_.size())));
    if (Checker* checker = device_->memory().checker())
      checker->allow(fibers_.back()->stack(), fibers_.back()->stack_bytes());
    return *fibers_.back();
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return *fiber;
}

void Grid::switch_to(Fiber& fiber) {
  Fiber& from = *std::exchange(running_, &fiber);
  ++device_->statistics.switches;
  Fiber::switch_between(from, fiber);
}

void Grid::fiber_body() {
  Fiber::entered();
  Grid& grid = of_this_thread();
  for (;;) grid.run_threads();
}

/// Threads that never wait share one fiber: an elementwise kernel switches twice a block.
void Grid::run_threads() {
  while (started_ < threads_.size()) {
    Thread& thread = threads_[start_order_[started_++]];
    thread.state = Thread::State::running;
    thread.fiber = running_;
    current_thread = &thread;
    Checker::active = device_->memory().checker();
    launch_->thread_body(launch_->arguments.get());
    Checker::active = nullptr;
    end_thread(thread);
  }
  idle_.push_back(running_);
  Thread* next = next_ready();
  if (next == nullptr && alive_ > 0) fail("no thread of the block can go on", Describe::threads);
  switch_to(next != nullptr ? *next->fiber : *main_);
}

void Grid::end_thread(Thread& thread) {
  thread.state = Thread::State::ended;
  if (!thread.copies.empty()) fail("a thread ends with asynchronous copies for which nothing waited");
  --alive_;
  Warp& warp = *thread.warp;
  warp.ended |= 1u << thread.lane;
  // CUDA would let the others go on, or hang, or neither: it is a bug in every case.
  if (!at_barrier_.empty()) fail("a thread ends while others wait for it in __syncthreads", Describe::threads);
  for (const PendingCollective& collective : warp.pending)
    if (collective.used && (collective.mask & warp.ended) != 0)
      fail("a lane ends while others wait for it in a warp collective", Describe::threads);
}

void Grid::make_ready(Thread& thread) {
  thread.state = Thread::State::running;
  ready_[(ready_begin_ + ready_count_++) % ready_.size()] = &thread;
}

Thread* Grid::next_ready() {
  if (ready_count_ == 0) return nullptr;
  const auto at = [&](std::size_t i) -> Thread*& { return ready_[(ready_begin_ + i) % ready_.size()]; };
  const Order order = device_->options.order;
  --ready_count_;
  if (order == Order::reverse) return at(ready_count_);
  if (order == Order::random) std::swap(at(0), at(random() % (ready_count_ + 1)));
  Thread* thread = at(0);
  ready_begin_ = (ready_begin_ + 1) % ready_.size();
  return thread;
}

Fiber* Grid::next_fiber() {
  const bool fresh = started_ < threads_.size();
  const bool prefers_fresh = device_->options.order == Order::random && random() % 8 == 0;
  if (ready_count_ > 0 && !(fresh && prefers_fresh)) return next_ready()->fiber;
  return fresh ? &idle_fiber() : nullptr;
}

void Grid::park(Thread::State state, const Place& place) {
  Thread* const me = current_thread;
  me->state = state;
  me->place = place;
  me->fiber = running_;
  Fiber* next = next_fiber();
  if (next == nullptr) fail("no thread of the block can go on", Describe::threads);
  if (next != running_) switch_to(*next);
  current_thread = me;
}

int Grid::barrier(Combine combine, bool predicate, const Place& place) {
  const Checker::Pause pause;
  if (alive_ != threads_.size())
    fail("__syncthreads after some threads of the block have ended", Describe::threads, &place);
  if (!at_barrier_.empty() && !same(place, barrier_place_))
    fail("divergent __syncthreads: others wait at another line", Describe::threads, &place);
  barrier_place_ = place;
  barrier_count_ += predicate ? 1 : 0;
  at_barrier_.push_back(current_thread);
  if (at_barrier_.size() == alive_) {
    release_barrier(current_thread);
  } else {
    park(Thread::State::at_barrier, place);
  }
  ++current_thread->barriers;
  switch (combine) {
    case Combine::count: return barrier_result_;
    case Combine::all: return barrier_result_ == static_cast<int>(threads_.size());
    default: return barrier_result_ > 0;
  }
}

void Grid::release_barrier(const Thread* last) {
  barrier_result_ = std::exchange(barrier_count_, 0);   // read by all before anyone can reach the next barrier's end
  ++device_->statistics.barriers;
  for (Thread* thread : at_barrier_)
    if (thread != last) make_ready(*thread);
  at_barrier_.clear();
}

void Grid::collective(Collective kind, std::uint32_t mask, void* operands, const Place& place) {
  const Checker::Pause pause;
  Thread* const me = current_thread;
  Warp& warp = *me->warp;
  if ((mask & warp.ended) != 0)
    fail("a warp collective names lanes that have ended", Describe::threads, &place);
  if ((mask >> me->lane & 1u) == 0) fail("the calling lane is not in the mask", Describe::nothing, &place);
  PendingCollective* slot = nullptr;
  for (PendingCollective& pending : warp.pending)
    if (pending.used && pending.mask == mask) slot = &pending;
  if (slot == nullptr) {
    for (PendingCollective& pending : warp.pending)
      if (!pending.used) slot = &pending;
    if (slot == nullptr) fail("a warp stands at too many divergent collectives", Describe::threads, &place);
    *slot = {.used = true, .kind = kind, .mask = mask, .place = place};
  } else if (slot->kind != kind || !same(slot->place, place)) {
    fail("divergent warp collective: other lanes of its mask wait elsewhere", Describe::threads, &place);
  }
  slot->arrived |= 1u << me->lane;
  slot->operands[me->lane] = operands;
  ++device_->statistics.collectives;
  if (slot->arrived == warp.expected(*slot)) {
    complete(warp, *slot, me);
  } else {
    park(Thread::State::at_collective, place);
  }
  if (kind == Collective::sync) ++me->warp_syncs;
}

void Grid::fail(const char* what, Describe describe, const Place* place) {
  Checker::active = nullptr;
  fault_ = what;
  fault_describe_ = describe;
  fault_place_ = place;
  switch_to(*main_);
  std::abort();   // nobody switches back to a fiber of a failed block
}

std::string Grid::describe_threads() const {
  std::map<std::string, std::vector<std::uint32_t>> groups;
  for (const Thread& thread : threads_) {
    switch (thread.state) {
      case Thread::State::fresh: groups["not started"].push_back(thread.linear); break;
      case Thread::State::running: groups["running"].push_back(thread.linear); break;
      case Thread::State::ended: groups["ended"].push_back(thread.linear); break;
      case Thread::State::at_barrier:
        groups["in __syncthreads at " + text_of(thread.place)].push_back(thread.linear);
        break;
      case Thread::State::at_collective:
        groups["in a warp collective at " + text_of(thread.place)].push_back(thread.linear);
        break;
    }
  }
  std::string text;
  for (const auto& [what, members] : groups) {
    text += "; " + std::to_string(members.size()) + " threads " + what + " (thread";
    for (std::size_t i = 0; i < members.size() && i < kShownThreads; ++i) text += " " + std::to_string(members[i]);
    text += members.size() > kShownThreads ? " ...)" : ")";
  }
  return text;
}

}  // namespace sinter::kernels::simt
