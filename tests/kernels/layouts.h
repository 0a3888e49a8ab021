// What the tests of strided kernels share on every backend: shapes, and how an operand of a shape lies in memory.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "kernels/base/dtype.h"
#include "kernels/base/strided.h"

namespace sinter::kernels::testing {

inline constexpr Dtype kAllDtypes[] = {Dtype::f32, Dtype::f64, Dtype::f16, Dtype::bf16,
                                       Dtype::i64, Dtype::i32, Dtype::u8, Dtype::boolean};

inline Extents make_extents(std::initializer_list<std::int64_t> sizes) {
  Extents extents;
  for (const std::int64_t n : sizes) extents.size[extents.rank++] = n;
  return extents;
}

/// How an operand lies in memory.
enum class Layout { contiguous, transposed, sliced, broadcast, scalar };
inline constexpr Layout kAllLayouts[] = {Layout::contiguous, Layout::transposed, Layout::sliced, Layout::broadcast,
                                         Layout::scalar};
inline constexpr Layout kWritableLayouts[] = {Layout::contiguous, Layout::transposed, Layout::sliced};

inline const char* name(Layout layout) {
  constexpr const char* names[] = {"contiguous", "transposed", "sliced", "broadcast", "scalar"};
  return names[static_cast<int>(layout)];
}

/// Strides of the layout: transposed = dimensions in reverse order in memory, sliced = every second element of rows that
/// are 3 longer, broadcast = step 0 along the first dimension and every second one after it, scalar = all 0.
inline Strides make_strides(const Extents& extents, Layout layout) {
  Strides strides = contiguous_strides(extents);
  std::int64_t step = 1;
  switch (layout) {
    case Layout::contiguous: break;
    case Layout::transposed:
      for (int d = 0; d < extents.rank; ++d) {
        strides.step[d] = step;
        step *= extents.size[d];
      }
      break;
    case Layout::sliced:
      step = 2;
      for (int d = extents.rank - 1; d >= 0; --d) {
        strides.step[d] = step;
        step *= extents.size[d] + 3;
      }
      break;
    case Layout::broadcast:
      for (int d = extents.rank - 1; d >= 0; --d) {
        strides.step[d] = d % 2 == 0 ? 0 : step;
        if (d % 2 != 0) step *= extents.size[d];
      }
      break;
    case Layout::scalar: strides = {}; break;
  }
  return strides;
}

/// Elements from the first to behind the last one that the strides reach; 0 for an empty shape.
inline std::int64_t span_of(const Extents& extents, const Strides& strides) {
  std::int64_t last = 0;
  for (int d = 0; d < extents.rank; ++d) {
    if (extents.size[d] == 0) return 0;
    last += (extents.size[d] - 1) * strides.step[d];
  }
  return last + 1;
}

}  // namespace sinter::kernels::testing
