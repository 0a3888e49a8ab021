#include "kernels/gather.h"

#include <cstring>
#include <vector>

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

/// Adds to the elements of dst: those of 16 bits in f64, written when it ends, the others at once.
class Sums {
 public:
  Sums(Dtype dtype, const void* src, void* dst, std::int64_t count) : dtype_(dtype), src_(src), dst_(dst) {
    if (size_of(dtype) != 2) return;
    for (std::int64_t i = 0; i < count; ++i) wide_.push_back(load(dtype, dst, i));
  }
  ~Sums() {
    for (std::size_t i = 0; i < wide_.size(); ++i) store(dtype_, dst_, static_cast<std::int64_t>(i), wide_[i]);
  }
  Sums(const Sums&) = delete;
  Sums& operator=(const Sums&) = delete;

  /// dst[to] += src[from].
  void add(std::int64_t from, std::int64_t to) {
    if (!wide_.empty()) {
      wide_[static_cast<std::size_t>(to)] += load(dtype_, src_, from);
    } else if (is_floating(dtype_)) {
      store(dtype_, dst_, to, load(dtype_, dst_, to) + load(dtype_, src_, from));
    } else {
      const std::uint64_t sum = static_cast<std::uint64_t>(load_integer(dtype_, dst_, to)) +
                                static_cast<std::uint64_t>(load_integer(dtype_, src_, from));
      store_integer(dtype_, dst_, to, static_cast<std::int64_t>(sum));
    }
  }

 private:
  Dtype dtype_;
  const void* src_;
  void* dst_;
  std::vector<double> wide_;
};

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
  Sums sums(p.dtype, p.src, p.dst, p.outer * p.n * p.inner);
  for (std::int64_t o = 0; o < p.outer; ++o)
    for (std::int64_t j = 0; j < p.m; ++j)
      for (std::int64_t i = 0; i < p.inner && !skipped(j); ++i)
        sums.add((o * p.m + j) * p.inner + i, (o * p.n + p.index[j]) * p.inner + i);
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
  Sums sums(p.dtype, p.src, p.dst, p.outer * p.n * p.inner);
  for (std::int64_t o = 0; o < p.outer; ++o)
    for (std::int64_t j = 0; j < p.m; ++j)
      for (std::int64_t i = 0; i < p.inner; ++i) {
        const std::int64_t k = (o * p.m + j) * p.inner + i;
        sums.add(k, (o * p.n + p.index[k]) * p.inner + i);
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
