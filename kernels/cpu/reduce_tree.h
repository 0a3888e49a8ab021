// The fixed tree of every reduction on the CPU.
//
// n inputs in order are cut into blocks of 256. Inside a block, 16 lanes each take every 16th input in ascending order
// and are then folded in halves: 8, 4, 2, 1. Block results are combined like the digits of a binary counter: two
// results of 2^k blocks make one of 2^(k+1); the rest is folded from the shortest run up. An error of a sum of floats
// grows with 16 + 4 + log2(n / 256) roundings, and which input meets which depends on n alone: not on threads, strides,
// other outputs or the width of a vector. So the same row gives the same bits whether it is reduced along memory or
// across it.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

namespace sinter::kernels::cpu {

inline constexpr std::int64_t kReduceLanes = 16;
inline constexpr std::int64_t kReduceBlock = 256;
/// Levels of the binary counter; 2^40 blocks are more than any address space holds.
inline constexpr int kReduceLevels = 40;

struct Sum {
  template <class T>
  static constexpr T identity() { return T{0}; }
  template <class T>
  static T combine(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using U = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    } else {
      return a + b;
    }
  }
};

/// Of equals the earlier one stays; NaN wins over everything.
struct Max {
  template <class T>
  static constexpr T identity() {
    return std::is_floating_point_v<T> ? -std::numeric_limits<T>::infinity() : std::numeric_limits<T>::lowest();
  }
  template <class T>
  static T combine(T a, T b) { return b > a || b != b ? b : a; }
};

struct Min {
  template <class T>
  static constexpr T identity() {
    return std::is_floating_point_v<T> ? std::numeric_limits<T>::infinity() : std::numeric_limits<T>::max();
  }
  template <class T>
  static T combine(T a, T b) { return b < a || b != b ? b : a; }
};

/// Results of consecutive runs of the same power of two blocks (the last run may be shorter), for W outputs at once.
template <class T, class Op, int W>
class ReduceCounter {
 public:
  void push(const T* value) {
    T carry[W];
    for (int i = 0; i < W; ++i) carry[i] = value[i];
    int level = 0;
    for (; (count_ >> level & 1u) != 0; ++level)
      for (int i = 0; i < W; ++i) carry[i] = Op::combine(level_[level][i], carry[i]);
    for (int i = 0; i < W; ++i) level_[level][i] = carry[i];
    ++count_;
  }

  /// Writes the identity where nothing was pushed.
  void finish(T* result) const {
    bool first = true;
    for (int i = 0; i < W; ++i) result[i] = Op::template identity<T>();
    for (int level = 0; count_ >> level != 0; ++level) {
      if ((count_ >> level & 1u) == 0) continue;
      for (int i = 0; i < W; ++i) result[i] = first ? level_[level][i] : Op::combine(level_[level][i], result[i]);
      first = false;
    }
  }

 private:
  std::uint64_t count_ = 0;
  T level_[kReduceLevels][W];
};

/// Folds 16 lanes (each of W outputs) into lane 0.
template <class T, class Op, int W>
void fold_lanes(T (&lane)[kReduceLanes][W]) {
  for (std::int64_t half = kReduceLanes / 2; half > 0; half /= 2)
    for (std::int64_t l = 0; l < half; ++l)
      for (int i = 0; i < W; ++i) lane[l][i] = Op::combine(lane[l][i], lane[l + half][i]);
}

/// The tree of one output, fed with its inputs in order. In is the stored type, T the one of the result.
template <class In, class T, class Op>
class RowReducer {
 public:
  RowReducer() { clear(); }

  /// The next n inputs, `step` elements apart.
  void feed(const In* x, std::int64_t step, std::int64_t n) {
    if (step == 1 && filled_ == 0) {
      for (; n >= 4 * kReduceBlock; n -= 4 * kReduceBlock, x += 4 * kReduceBlock) push_blocks<4>(x);
      for (; n >= kReduceBlock; n -= kReduceBlock, x += kReduceBlock) push_blocks<1>(x);
    }
    for (std::int64_t i = 0; i < n;) {
      const std::int64_t lane = filled_ % kReduceLanes;
      if (step == 1 && lane == 0 && n - i >= kReduceLanes) {
        for (std::int64_t l = 0; l < kReduceLanes; ++l)
          lane_[l][0] = Op::combine(lane_[l][0], static_cast<T>(x[i + l]));
        i += kReduceLanes;
        filled_ += kReduceLanes;
      } else {
        lane_[lane][0] = Op::combine(lane_[lane][0], static_cast<T>(x[i * step]));
        ++i;
        ++filled_;
      }
      if (filled_ == kReduceBlock) close_block();
    }
  }

  T finish() {
    if (filled_ > 0) close_block();
    T result;
    counter_.finish(&result);
    return result;
  }

 private:
  /// Whole blocks side by side, because one block alone waits for the latency of its additions.
  template <int K>
  void push_blocks(const In* x) {
    T lane[K][kReduceLanes];
    for (int b = 0; b < K; ++b)
      for (std::int64_t l = 0; l < kReduceLanes; ++l) lane[b][l] = Op::template identity<T>();
    for (std::int64_t i = 0; i < kReduceBlock; i += kReduceLanes)
      for (int b = 0; b < K; ++b)
        for (std::int64_t l = 0; l < kReduceLanes; ++l)
          lane[b][l] = Op::combine(lane[b][l], static_cast<T>(x[b * kReduceBlock + i + l]));
    for (int b = 0; b < K; ++b) {
      for (std::int64_t half = kReduceLanes / 2; half > 0; half /= 2)
        for (std::int64_t l = 0; l < half; ++l) lane[b][l] = Op::combine(lane[b][l], lane[b][l + half]);
      counter_.push(lane[b]);
    }
  }

  void close_block() {
    fold_lanes<T, Op, 1>(lane_);
    counter_.push(lane_[0]);
    clear();
  }

  void clear() {
    filled_ = 0;
    for (std::int64_t l = 0; l < kReduceLanes; ++l) lane_[l][0] = Op::template identity<T>();
  }

  std::int64_t filled_ = 0;
  T lane_[kReduceLanes][1];
  ReduceCounter<T, Op, 1> counter_;
};

/// The same tree for up to W outputs that lie side by side, fed with one input of each at a time.
template <class In, class T, class Op, int W>
class ColumnReducer {
 public:
  explicit ColumnReducer(std::int64_t width) : width_(width) { clear(); }

  void feed(const In* row) {
    T* lane = lane_[filled_ % kReduceLanes];
#pragma omp simd
    for (std::int64_t i = 0; i < width_; ++i) lane[i] = Op::combine(lane[i], static_cast<T>(row[i]));
    if (++filled_ == kReduceBlock) close_block();
  }

  /// Writes all W results; those beyond the width are the identity.
  void finish(T* result) {
    if (filled_ > 0) close_block();
    counter_.finish(result);
  }

 private:
  void close_block() {
    fold_lanes<T, Op, W>(lane_);
    counter_.push(lane_[0]);
    clear();
  }

  void clear() {
    filled_ = 0;
    for (std::int64_t l = 0; l < kReduceLanes; ++l)
      for (int i = 0; i < W; ++i) lane_[l][i] = Op::template identity<T>();
  }

  std::int64_t width_;
  std::int64_t filled_ = 0;
  T lane_[kReduceLanes][W];
  ReduceCounter<T, Op, W> counter_;
};

}  // namespace sinter::kernels::cpu
