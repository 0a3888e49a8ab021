#include "kernels/catch_up_rows.h"

#include <algorithm>
#include <atomic>

#include "kernels/base/entry.h"
#include "kernels/base/families.h"
#include "kernels/base/stream.h"
#include "kernels/cpu/adamw_step.h"

namespace sinter::kernels::cpu {
namespace {

/// Vectors of a row that are under way together: they hide the latency of root and division.
constexpr int kVectors = 4;
/// Steps after which it is asked again what has become zero.
constexpr std::int64_t kSteps = 32;
/// Rows of one task: of named ones, of which some lag by thousands of steps, and of all.
constexpr std::int64_t kNamedRows = 2, kTaskRows = 16;

/// Elements of a row and their moments over the missed steps. A lane that does not take part holds zeros.
template <class T, int N>
struct Elements {
  Vec<T> p[N], m[N], v[N];

  /// +0 in every lane. -0, which flushing leaves, becomes +0 by one more step.
  bool has_momentum() const {
    bool any = false;
    for (int i = 0; i < N; ++i) any |= any_bit(m[i]);
    return any;
  }
  bool has_square() const {
    bool any = false;
    for (int i = 0; i < N; ++i) any |= any_bit(v[i]);
    return any;
  }
  /// Without momentum a step subtracts +0 from p, which changes nothing, as long as the root of v is a number.
  bool squares_are_numbers() const {
    bool bad = false;
    for (int i = 0; i < N; ++i) bad |= any_bit(v[i] - max(v[i], Vec<T>::all(0)));
    return !bad;
  }

  void take_steps(const AdamWConstants<T>& k, const AdamWCoefficients* history, std::int64_t stride,
                  std::int64_t count) {
    const Vec<T> no_gradient = Vec<T>::all(0);
    for (std::int64_t s = 0; s < count; ++s) {
      const AdamWNow<T> now(history[s * stride]);
      for (int i = 0; i < N; ++i) take_adamw_step(k, now, no_gradient, p[i], m[i], v[i]);
    }
  }
  /// The same where every m is +0: fma(beta2, v, +0) is the product, and p loses +0.
  void take_steps_without_momentum(const AdamWConstants<T>& k, const AdamWCoefficients* history, std::int64_t stride,
                                   std::int64_t count) {
    for (std::int64_t s = 0; s < count; ++s) {
      const Vec<T> decay = Vec<T>::all(static_cast<T>(history[s * stride].decay));
      for (int i = 0; i < N; ++i) {
        v[i] = v[i] * k.beta2;
        p[i] = p[i] * decay;
      }
    }
  }
  /// The same where every v is 0 too. A factor of 1 changes nothing but denormals, which the first step flushes.
  void decay(const AdamWCoefficients* history, std::int64_t stride, std::int64_t count) {
    for (std::int64_t s = 0; s < count; ++s) {
      const T factor = static_cast<T>(history[s * stride].decay);
      if (factor == 1 && s > 0) continue;
      for (int i = 0; i < N; ++i) p[i] = p[i] * Vec<T>::all(factor);
    }
  }
};

/// N vectors at element `at` of the table take the steps from + 1 .. to.
template <class T, int N, class Lanes>
void replay(const CatchUpRows& q, const AdamWConstants<T>& k, std::int64_t from, std::int64_t to, std::int64_t at,
            Lanes lanes) {
  auto* const param = static_cast<T*>(q.param) + at;
  auto* const exp_avg = static_cast<T*>(q.exp_avg) + at;
  auto* const exp_avg_sq = static_cast<T*>(q.exp_avg_sq) + at;
  Elements<T, N> e;
  for (int i = 0; i < N; ++i) {
    e.p[i] = load(param + i * Vec<T>::size, lanes);
    e.m[i] = load(exp_avg + i * Vec<T>::size, lanes);
    e.v[i] = load(exp_avg_sq + i * Vec<T>::size, lanes);
  }
  for (std::int64_t s = from + 1; s <= to;) {
    const std::int64_t place = s % q.history_size;
    const std::int64_t count = std::min({to - s + 1, kSteps, q.history_size - place});
    const AdamWCoefficients* const history = q.history + place * q.history_stride;
    if (e.has_momentum() || !e.squares_are_numbers())
      e.take_steps(k, history, q.history_stride, count);
    else if (e.has_square())
      e.take_steps_without_momentum(k, history, q.history_stride, count);
    else
      e.decay(history, q.history_stride, count);
    s += count;
  }
  for (int i = 0; i < N; ++i) {
    store(param + i * Vec<T>::size, e.p[i], lanes);
    store(exp_avg + i * Vec<T>::size, e.m[i], lanes);
    store(exp_avg_sq + i * Vec<T>::size, e.v[i], lanes);
    if (q.low != nullptr)
      store_low(static_cast<std::uint16_t*>(q.low) + at + i * Vec<T>::size, q.low_dtype, e.p[i], lanes);
  }
}

template <class T>
void replay_row(const CatchUpRows& q, const AdamWConstants<T>& k, std::int64_t row, std::int64_t from,
                std::int64_t to) {
  constexpr std::int64_t group = kVectors * Vec<T>::size;
  std::int64_t c = 0;
  for (; c + group <= q.cols; c += group) replay<T, kVectors>(q, k, from, to, row * q.cols + c, AllLanes{});
  for_vectors<T>(c, q.cols, [&](std::int64_t i, auto lanes) { replay<T, 1>(q, k, from, to, row * q.cols + i, lanes); });
}

Status check_rows(const CatchUpRows& q, std::int64_t step) {
  const std::int64_t count = q.ids == nullptr ? q.rows : q.n;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = q.ids == nullptr ? i : q.ids[i];
    if (static_cast<std::uint64_t>(row) >= static_cast<std::uint64_t>(q.rows))
      return invalid("ids: every index must lie in [0, rows)");
    const std::int64_t lag = step - q.current[row];
    if (lag < 0 || lag > q.history_size) return invalid("a row lags by more steps than the history holds");
  }
  return {};
}

/// Who first says that a row is current catches it up; it may be named several times.
template <class T>
Status catch_up(const CatchUpRows& q, Stream stream) {
  const std::int64_t to = *q.step;
  if (const Status status = check_rows(q, to); !status.ok()) return status;
  const AdamWConstants<T> k(q);
  const auto bring = [&](std::int64_t row) {
    const std::int64_t from = std::atomic_ref(q.current[row]).exchange(to, std::memory_order_relaxed);
    if (from < to) replay_row<T>(q, k, row, from, to);
  };
  const std::int64_t count = q.ids == nullptr ? q.rows : q.n;
  parallel_ranges(stream, count, q.ids == nullptr ? kTaskRows : kNamedRows, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) bring(q.ids == nullptr ? i : q.ids[i]);
  });
  return {};
}

Status run_catch_up(const CatchUpRows& q, Stream stream) {
  return q.dtype == Dtype::f32 ? catch_up<float>(q, stream) : catch_up<double>(q, stream);
}

Status check_cpu(const CatchUpRows& q) {
  if (q.dtype != Dtype::f32 && q.dtype != Dtype::f64) return unsupported("the optimizer on the CPU takes f32 and f64");
  return check(q);
}

constexpr Variant variants[] = {{"in_registers", "missed steps in registers, without what has become zero",
                                 "selected always", erased_run<CatchUpRows, run_catch_up>}};
constexpr KernelEntry entries[] = {entry<CatchUpRows, check_cpu>(variants)};

}  // namespace

extern const Family catch_up_rows_family;
const Family catch_up_rows_family = family(entries);

}  // namespace sinter::kernels::cpu
