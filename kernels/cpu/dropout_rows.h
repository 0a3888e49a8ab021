// Dropout decisions of the rows of a [rows, cols] buffer, for kernels that walk along rows.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/base/philox.h"
#include "kernels/cpu/philox_simd.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_loop.h"

namespace sinter::kernels::cpu {

/// Columns whose decisions are drawn at once; kernels walk a row in such chunks.
inline constexpr std::int64_t kDropoutChunk = 1024;

/// Decisions of one chunk of one row.
class KeepBits {
 public:
  /// Bit i: element `column` + i of the chunk is kept; valid for the lanes of one vector.
  std::uint32_t at(std::int64_t column) const {
    const std::uint64_t bit = shift_ + static_cast<std::uint64_t>(column);
    std::uint32_t word = 0;
    std::memcpy(&word, bytes_ + bit / 8, sizeof(word));
    return word >> (bit % 8);
  }

 private:
  friend class DropoutRows;
  /// A chunk that starts inside a block touches one block more; the last lookup reads up to four bytes behind it.
  static constexpr std::int64_t kBytes = (kDropoutChunk / 8 + 1 + kPhiloxBlocks - 1) / kPhiloxBlocks * kPhiloxBlocks;
  std::uint64_t shift_ = 0;
  std::uint8_t bytes_[kBytes + 4];
};

class DropoutRows {
 public:
  DropoutRows(const Dropout16& dropout, const RowMap& map, std::int64_t cols)
      : dropout_(dropout), map_(map), cols_(cols),
        first_sample_(dropout.first_sample == nullptr ? 0 : *dropout.first_sample) {}

  bool active() const { return dropout_.active(); }
  template <class T>
  T scale() const {
    return static_cast<T>(dropout_.scale());
  }

  /// Draws the decisions of columns [begin, end) of row r, end - begin <= kDropoutChunk.
  void draw(std::int64_t r, std::int64_t begin, std::int64_t end, KeepBits& bits) const {
    const std::int32_t row_sample = map_.sample == nullptr ? static_cast<std::int32_t>(r) : map_.sample[r];
    const std::int64_t position = map_.position == nullptr ? 0 : map_.position[r];
    const std::int64_t element = position * cols_ + begin;
    const SampleDropout sample(dropout_, first_sample_ + static_cast<std::uint32_t>(row_sample));
    bits.shift_ = static_cast<std::uint64_t>(element % 8);
    const std::int64_t blocks = (element % 8 + (end - begin) + 7) / 8;
    for (std::int64_t b = 0; b < blocks; b += kPhiloxBlocks)
      sample.keep_from(static_cast<std::uint32_t>(element / 8 + b), bits.bytes_ + b);
  }

 private:
  Dropout16 dropout_;
  RowMap map_;
  std::int64_t cols_;
  std::uint32_t first_sample_;
};

/// Walks rows r .. r + R - 1 in chunks: draws the decisions of the R rows first, then calls fn(i, begin, end, bits) for
/// row r + i. A look-up close behind its draw would stall, because it may straddle two stores that are still on their
/// way.
template <int R, class Fn>
inline void for_dropout_chunks(const DropoutRows& dropout, std::int64_t r, std::int64_t cols, Fn&& fn) {
  KeepBits bits[R];
  for (std::int64_t begin = 0; begin < cols; begin += kDropoutChunk) {
    const std::int64_t end = std::min(cols, begin + kDropoutChunk);
    for (int i = 0; i < R; ++i) dropout.draw(r + i, begin, end, bits[i]);
    for (int i = 0; i < R; ++i) fn(i, begin, end, bits[i]);
  }
}

/// y = dropout(x) for rows r .. r + R - 1 of [rows, cols] buffers; y may equal x.
template <int R, class T>
inline void drop_rows(const DropoutRows& dropout, std::int64_t r, const T* x, T* y, std::int64_t cols) {
  const Vec<T> scale = Vec<T>::all(dropout.scale<T>());
  for_dropout_chunks<R>(dropout, r, cols, [&](int i, std::int64_t begin, std::int64_t end, const KeepBits& bits) {
    const T* const from = x + (r + i) * cols;
    T* const to = y + (r + i) * cols;
    for_vectors<T>(begin, end, [&](std::int64_t c, auto lanes) {
      store(to + c, (load(from + c, lanes) * scale).keep(bits.at(c - begin)), lanes);
    });
  });
}

}  // namespace sinter::kernels::cpu
