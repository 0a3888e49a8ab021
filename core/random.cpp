#include "core/random.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/autograd/mode.h"
#include "core/error.h"
#include "core/ops/broadcast.h"
#include "kernels/base/philox.h"

namespace sinter {
namespace {

thread_local const StepScope::State* t_step = nullptr;

/// 32 bits as a double in (0, 1).
double unit(std::uint32_t bits) { return (static_cast<double>(bits) + 0.5) * 0x1p-32; }

/// Calls fn(four 32-bit words) for every four elements and copies its four values into the tensor.
template <class Fn>
void fill_by_fours(Tensor& tensor, std::uint64_t seed, std::uint32_t site, Fn&& fn) {
  if (!kernels::is_floating(tensor.dtype()))
    fail(ErrorCode::usage, "random values for a ", name(tensor.dtype()), " tensor");
  std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
  for (std::size_t i = 0; i < values.size(); i += 4) {
    const std::uint64_t block = i / 4;
    // Counter words 0 and 2 are a training step and a sample elsewhere; the top bit keeps fills apart from dropout.
    const kernels::Philox4x32 r = kernels::philox4x32_10(
        seed, 0x80000000u, site, static_cast<std::uint32_t>(block >> 32), static_cast<std::uint32_t>(block));
    double four[4];
    fn(r.word, four);
    for (std::size_t j = 0; j < 4 && i + j < values.size(); ++j) values[i + j] = four[j];
  }
  tensor.copy_(Tensor::from(values, tensor.shape()).to(tensor.dtype()));
}

}  // namespace

StepCounters::StepCounters(const Tensor& placed) : placed_(true), moved_{placed} {
  check_dtype("StepCounters", "the counters", placed, Dtype::i32);
  check_shape("StepCounters", "the counters", placed, {2});
}

const std::uint32_t* StepCounters::on(Device device) const {
  if (placed_ && device != moved_.front().device())
    fail(ErrorCode::usage, "the step's counters stand on ", moved_.front().device().str(), ", a dropout on ",
         device.str(), " cannot read them");
  if (device.is_cpu() && !placed_) return values_;
  const std::lock_guard guard(lock_);
  auto moved = std::find_if(moved_.begin(), moved_.end(), [&](const Tensor& x) { return x.device() == device; });
  if (moved == moved_.end()) {
    std::int32_t numbers[2];
    std::memcpy(numbers, values_, sizeof numbers);
    const Tensor both = Tensor::from(std::span<const std::int32_t>(numbers), {2});
    moved = moved_.insert(moved_.end(), upload({&both, 1}, device)[0]);
  }
  return static_cast<const std::uint32_t*>(moved->data());
}

StepScope::StepScope(std::uint64_t seed, std::uint32_t global_step, std::uint32_t first_sample)
    : before_(t_step),
      state_{seed, global_step, first_sample, std::make_shared<const StepCounters>(global_step, first_sample)} {
  t_step = &state_;
}

StepScope::StepScope(std::uint64_t seed, std::shared_ptr<const StepCounters> counters)
    : before_(t_step), state_{seed, 0, 0, std::move(counters)} {
  t_step = &state_;
}

StepScope::~StepScope() { t_step = before_; }

const StepScope::State& StepScope::current(const char* who) {
  if (t_step == nullptr)
    fail(ErrorCode::usage, who,
         " with p > 0 in training mode needs to know the step: put StepScope(seed, step) around the "
         "forward, or call eval()");
  return *t_step;
}

std::optional<StepScope::State> StepScope::active() {
  return t_step == nullptr ? std::nullopt : std::optional(*t_step);
}

std::uint32_t current_site(std::string_view suffix) {
  const auto& path = autograd::ModuleScope::current();
  return site_id(suffix, path == nullptr ? site_id("") : site_id(*path));
}

void normal_(Tensor& tensor, double mean, double stddev, std::uint64_t seed, std::uint32_t site) {
  fill_by_fours(tensor, seed, site, [&](const std::uint32_t (&word)[4], double (&out)[4]) {
    for (int pair = 0; pair < 2; ++pair) {
      const double radius = std::sqrt(-2 * std::log(unit(word[2 * pair])));
      const double angle = 2 * std::numbers::pi * unit(word[2 * pair + 1]);
      out[2 * pair] = mean + stddev * radius * std::cos(angle);
      out[2 * pair + 1] = mean + stddev * radius * std::sin(angle);
    }
  });
}

void uniform_(Tensor& tensor, double low, double high, std::uint64_t seed, std::uint32_t site) {
  fill_by_fours(tensor, seed, site, [&](const std::uint32_t (&word)[4], double (&out)[4]) {
    for (int j = 0; j < 4; ++j) out[j] = low + (high - low) * (static_cast<double>(word[j]) * 0x1p-32);
  });
}

}  // namespace sinter
