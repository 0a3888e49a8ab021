#include "kernels/copy.h"

#include "kernels/base/entry.h"
#include "kernels/base/families.h"
#include "kernels/ref/element.h"
#include "kernels/ref/index.h"

namespace sinter::kernels::ref {
namespace {

Status run_copy(const Copy& p, Stream) {
  for (std::int64_t i = 0; i < p.extents.count(); ++i) {
    const std::int64_t from = offset(p.extents, p.src_strides, i), to = offset(p.extents, p.dst_strides, i);
    if (p.src_dtype == p.dst_dtype) {
      const std::size_t size = size_of(p.src_dtype);
      for (std::size_t byte = 0; byte < size; ++byte)
        static_cast<char*>(p.dst)[static_cast<std::size_t>(to) * size + byte] =
            static_cast<const char*>(p.src)[static_cast<std::size_t>(from) * size + byte];
    } else if (is_floating(p.src_dtype)) {
      store(p.dst_dtype, p.dst, to, load(p.src_dtype, p.src, from));
    } else {
      store_integer(p.dst_dtype, p.dst, to, load_integer(p.src_dtype, p.src, from));
    }
  }
  return {};
}

Status run_fill(const Fill& p, Stream) {
  for (std::int64_t i = 0; i < p.extents.count(); ++i) {
    const std::int64_t to = offset(p.extents, p.dst_strides, i);
    if (is_floating(p.dtype))
      store(p.dtype, p.dst, to, p.value);
    else
      store_integer(p.dtype, p.dst, to, p.integer);
  }
  return {};
}

constexpr Variant copy_variants[] = {{"naive", "one element after the other", "the oracle",
                                      erased_run<Copy, run_copy>}};
constexpr Variant fill_variants[] = {{"naive", "one element after the other", "the oracle",
                                      erased_run<Fill, run_fill>}};
constexpr KernelEntry entries[] = {entry<Copy, check>(copy_variants), entry<Fill, check>(fill_variants)};

}  // namespace

extern const Family copy_family;
const Family copy_family = family(entries);

}  // namespace sinter::kernels::ref
