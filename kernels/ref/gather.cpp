#include "kernels/gather.h"

#include <cstring>

#include "kernels/base/entry.h"
#include "kernels/base/families.h"
#include "kernels/ref/element.h"

namespace sinter::kernels::ref {
namespace {

constexpr Status kOutOfRange = invalid("an index lies outside [0, n)");

void copy_element(Dtype dtype, const void* src, std::int64_t from, void* dst, std::int64_t to) {
  const std::int64_t size = static_cast<std::int64_t>(size_of(dtype));
  std::memcpy(static_cast<char*>(dst) + to * size, static_cast<const char*>(src) + from * size, size_of(dtype));
}

/// dst[to] += src[from], rounded to the dtype at every addition.
void add_element(Dtype dtype, const void* src, std::int64_t from, void* dst, std::int64_t to) {
  if (is_floating(dtype)) {
    store(dtype, dst, to, load(dtype, dst, to) + load(dtype, src, from));
  } else {
    const std::uint64_t sum = static_cast<std::uint64_t>(load_integer(dtype, dst, to)) +
                              static_cast<std::uint64_t>(load_integer(dtype, src, from));
    store_integer(dtype, dst, to, static_cast<std::int64_t>(sum));
  }
}

Status run_index_select(const IndexSelect& p, Stream) {
  for (std::int64_t j = 0; j < p.m; ++j)
    if (p.index[j] < 0 || p.index[j] >= p.n) return kOutOfRange;
  for (std::int64_t o = 0; o < p.outer; ++o)
    for (std::int64_t j = 0; j < p.m; ++j)
      for (std::int64_t i = 0; i < p.inner; ++i)
        copy_element(p.dtype, p.src, (o * p.n + p.index[j]) * p.inner + i, p.dst, (o * p.m + j) * p.inner + i);
  return {};
}

Status run_index_add(const IndexAdd& p, Stream) {
  const auto skipped = [&](std::int64_t j) { return p.skip != -1 && p.index[j] == p.skip; };
  for (std::int64_t j = 0; j < p.m; ++j)
    if (!skipped(j) && (p.index[j] < 0 || p.index[j] >= p.n)) return kOutOfRange;
  for (std::int64_t o = 0; o < p.outer; ++o)
    for (std::int64_t j = 0; j < p.m; ++j)
      for (std::int64_t i = 0; i < p.inner && !skipped(j); ++i)
        add_element(p.dtype, p.src, (o * p.m + j) * p.inner + i, p.dst, (o * p.n + p.index[j]) * p.inner + i);
  return {};
}

template <class P>
bool in_range(const P& p) {
  for (std::int64_t k = 0; k < p.outer * p.m * p.inner; ++k)
    if (p.index[k] < 0 || p.index[k] >= p.n) return false;
  return true;
}

Status run_gather(const Gather& p, Stream) {
  if (!in_range(p)) return kOutOfRange;
  for (std::int64_t o = 0; o < p.outer; ++o)
    for (std::int64_t j = 0; j < p.m; ++j)
      for (std::int64_t i = 0; i < p.inner; ++i) {
        const std::int64_t k = (o * p.m + j) * p.inner + i;
        copy_element(p.dtype, p.src, (o * p.n + p.index[k]) * p.inner + i, p.dst, k);
      }
  return {};
}

Status run_scatter_add(const ScatterAdd& p, Stream) {
  if (!in_range(p)) return kOutOfRange;
  for (std::int64_t o = 0; o < p.outer; ++o)
    for (std::int64_t j = 0; j < p.m; ++j)
      for (std::int64_t i = 0; i < p.inner; ++i) {
        const std::int64_t k = (o * p.m + j) * p.inner + i;
        add_element(p.dtype, p.src, k, p.dst, (o * p.n + p.index[k]) * p.inner + i);
      }
  return {};
}

template <class P>
Status supports_add(const P& p) {
  if (p.dtype == Dtype::u8 || p.dtype == Dtype::boolean)
    return unsupported("adding needs a floating dtype, i64 or i32");
  return check(p);
}

constexpr Variant index_select_variants[] = {{"naive", "one element after the other", "the oracle",
                                              erased_run<IndexSelect, run_index_select>}};
constexpr Variant index_add_variants[] = {{"naive", "one element after the other", "the oracle",
                                           erased_run<IndexAdd, run_index_add>}};
constexpr Variant gather_variants[] = {{"naive", "one element after the other", "the oracle",
                                        erased_run<Gather, run_gather>}};
constexpr Variant scatter_add_variants[] = {{"naive", "one element after the other", "the oracle",
                                             erased_run<ScatterAdd, run_scatter_add>}};
constexpr KernelEntry entries[] = {entry<IndexSelect, check>(index_select_variants),
                                   entry<IndexAdd, supports_add<IndexAdd>>(index_add_variants),
                                   entry<Gather, check>(gather_variants),
                                   entry<ScatterAdd, supports_add<ScatterAdd>>(scatter_add_variants)};

}  // namespace

extern const Family gather_family;
const Family gather_family = family(entries);

}  // namespace sinter::kernels::ref
