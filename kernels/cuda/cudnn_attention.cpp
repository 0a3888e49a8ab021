#include "kernels/cuda/cudnn_attention.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <mutex>
#include <type_traits>
#include <vector>

#include "kernels/base/entry.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/ragged.h"
#include "kernels/cuda/vendor_library.h"

namespace sinter::kernels::cuda {
namespace {

constexpr std::int64_t kMostHeadSize = 256;
/// Sequences up to here are by_rows's, or those of our own kernels on tensor cores: variants change with max_length
/// there, and nowhere else.
constexpr std::int64_t kShort = 128;
constexpr std::int64_t kLengthClass = 128;

/// The backward's sums in a fixed order: see dnn::kStages. Releases before did not have them.
constexpr std::int64_t kOrderedStages = 4;
constexpr std::size_t kOrderedSince = 92500;

template <class P>
constexpr bool kIsBackward = std::is_same_v<P, AttentionBackward>;

// --- The operation ---

/// Ids of tensors; kBegins + i is the table of operand i, or of the statistics, which come behind the operands.
enum Id : std::int64_t { kStats = 50, kScale, kLengthsQ, kLengthsKv, kBegins = 100 };

/// A tensor [tokens, heads * head_size]; its id is its number.
struct Operand {
  dnn::Attribute attribute;
  std::int64_t stride;
  const void* pointer;
};

std::vector<Operand> operands(const Attention& p) {
  return {{dnn::kForwardQ, p.stride_q, p.q}, {dnn::kForwardK, p.stride_k, p.k}, {dnn::kForwardV, p.stride_v, p.v},
          {dnn::kForwardO, p.stride_o, p.o}};
}
std::vector<Operand> operands(const AttentionBackward& p) {
  return {{dnn::kBackwardQ, p.stride_q, p.q},    {dnn::kBackwardK, p.stride_k, p.k},
          {dnn::kBackwardV, p.stride_v, p.v},    {dnn::kBackwardO, p.stride_o, p.o},
          {dnn::kBackwardDo, p.stride_do, p.d_o}, {dnn::kBackwardDq, p.stride_dq, p.dq},
          {dnn::kBackwardDk, p.stride_dk, p.dk}, {dnn::kBackwardDv, p.stride_dv, p.dv}};
}

constexpr std::int64_t round_up(std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; }

/// At most a quarter more, in steps that double with n.
std::int64_t listed_sequences(std::int64_t sequences) {
  const auto below = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(sequences)));
  return round_up(sequences, std::max<std::int64_t>(1, below / 4));
}

template <class P>
dnn::Descriptor describe(dnn::Maker& maker, const P& p) {
  constexpr bool backward = kIsBackward<P>;
  const std::int64_t b = listed_sequences(p.sequences), h = p.heads, s = round_up(p.max_length, kLengthClass);
  const dnn::DataType type = p.dtype == Dtype::f16 ? dnn::kF16 : dnn::kBF16;
  const auto begins = [&](std::size_t number) {
    return make_tensor(maker, {kBegins + static_cast<std::int64_t>(number), dnn::kI64, {b + 1, 1, 1, 1}, {1, 1, 1, 1}});
  };
  const std::vector<Operand> all = operands(p);
  std::vector<dnn::Descriptor> made;
  std::vector<dnn::Setting> settings;
  made.reserve(all.size() + 4);   // settings point into it
  const auto add = [&](dnn::Attribute attribute, const dnn::Tensor& tensor) {
    made.push_back(make_tensor(maker, tensor));
    settings.push_back({attribute, dnn::kDescriptorType, 1, &made.back()});
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::int64_t stride = all[i].stride;
    const auto number = static_cast<std::int64_t>(i);
    add(all[i].attribute,
        {number, type, {b, h, s, p.head_size}, {s * stride, p.head_size, stride, 1}, begins(i)});
  }
  add(backward ? dnn::kBackwardStats : dnn::kForwardStats,
      {kStats, dnn::kF32, {b, h, s, 1}, {s * h, 1, h, 1}, begins(all.size())});
  add(backward ? dnn::kBackwardScale : dnn::kForwardScale,
      {.id = kScale, .type = dnn::kF32, .dims = {1, 1, 1, 1}, .strides = {1, 1, 1, 1}, .by_value = true});
  add(backward ? dnn::kBackwardLengthsQ : dnn::kForwardLengthsQ, {kLengthsQ, dnn::kI32, {b, 1, 1, 1}, {1, 1, 1, 1}});
  add(backward ? dnn::kBackwardLengthsKv : dnn::kForwardLengthsKv,
      {kLengthsKv, dnn::kI32, {b, 1, 1, 1}, {1, 1, 1, 1}});
  return maker.make(backward ? dnn::kSdpaBackward : dnn::kSdpaForward, settings);
}

template <class P>
dnn::Plan plan_on(dnn::Maker& maker, const dnn::Target& target, const P& p) {
  if (kIsBackward<P> && dnn::version_number() < kOrderedSince) return {};
  const dnn::Descriptor operation = describe(maker, p);
  if (!maker.ok()) return {};
  return make_plan(maker, target, operation, kIsBackward<P> ? std::optional(kOrderedStages) : std::nullopt);
}

// --- Plans: all that the first call of a class of problems finds out ---

using Key = std::array<std::int64_t, 15>;

template <class P>
Key key_of(const P& p) {
  Key key = {kIsBackward<P>, current_device(), static_cast<std::int64_t>(p.dtype), listed_sequences(p.sequences),
             p.heads, p.head_size, round_up(p.max_length, kLengthClass)};
  const std::vector<Operand> all = operands(p);
  for (std::size_t i = 0; i < all.size(); ++i) key[7 + i] = all[i].stride;
  return key;
}

/// Plans of the process. They live until it ends: the library may be gone before a destructor runs.
struct Plans {
  std::mutex mutex;
  std::map<Key, dnn::Plan> plans;

  static Plans& instance() {
    static Plans& all = *new Plans;
    return all;
  }
};

template <class P>
bool is_of_a_kind(const P& p) {
  if (p.dtype != Dtype::f16 && p.dtype != Dtype::bf16) return false;
  if (p.head_size % 8 != 0 || p.head_size > kMostHeadSize || p.dropout.active() || p.key_mask != nullptr) return false;
  if (p.tokens == 0 || p.sequences == 0 || p.max_length == 0) return false;
  const std::vector<Operand> all = operands(p);
  return std::all_of(all.begin(), all.end(),
                     [](const Operand& each) { return each.stride * 2 % dnn::kAlignment == 0; });
}

template <class P>
bool is_aligned(const P& p) {
  const std::vector<Operand> all = operands(p);
  return std::all_of(all.begin(), all.end(), [](const Operand& each) {
    return reinterpret_cast<std::uintptr_t>(each.pointer) % dnn::kAlignment == 0;
  });
}

/// Null where there is none. The mutex is held. Handles allocate and plans load code, neither of which can be captured:
/// the first call of a class of problems comes before.
template <class P>
const dnn::Plan* plan_for(Plans& all, const P& p) {
  if (*dnn::why_no_cudnn() != '\0' || !is_of_a_kind(p)) return nullptr;
  const dnn::Handle handle = dnn::handle_of_device();
  if (handle == nullptr) return nullptr;
  const auto [at, is_new] = all.plans.try_emplace(key_of(p));
  if (is_new) {
    dnn::Maker maker;
    at->second = plan_on(maker, {.handle = handle}, p);
  }
  return at->second.plan == nullptr ? nullptr : &at->second;
}

template <class P>
bool takes(const P& p) {
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  return is_aligned(p) && plan_for(all, p) != nullptr;
}

// --- The workspace ---

constexpr std::size_t kPart = 256;   // the alignment of its parts; that of the whole may be less

/// Parts as offsets from the first multiple of kPart.
struct Layout {
  std::size_t begins = 0, lengths, stats, library, end;

  template <class P>
  Layout(const P& p, const dnn::Plan& plan) {
    const auto behind = [](std::size_t from, std::size_t bytes) { return (from + bytes + kPart - 1) / kPart * kPart; };
    const auto listed = static_cast<std::size_t>(listed_sequences(p.sequences));
    lengths = behind(begins, (operands(p).size() + 1) * (listed + 1) * sizeof(std::int64_t));
    stats = behind(lengths, listed * sizeof(std::int32_t));
    library = behind(stats, static_cast<std::size_t>(p.tokens * p.heads) * sizeof(float));
    end = library + plan.workspace_bytes;
  }
};

template <class P>
std::size_t workspace_of(const P& p) {
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  const dnn::Plan* const plan = plan_for(all, p);
  return plan == nullptr ? 0 : Layout(p, *plan).end + kPart;
}

template <class P>
Status write_tables(const P& p, std::byte* base, const Layout& layout, Stream stream) {
  RaggedTables tables{.tokens = p.tokens, .sequences = p.sequences, .max_length = p.max_length,
                      .listed = listed_sequences(p.sequences), .offsets = p.offsets,
                      .begins = reinterpret_cast<std::int64_t*>(base + layout.begins),
                      .lengths = reinterpret_cast<std::int32_t*>(base + layout.lengths)};
  for (const Operand& each : operands(p)) tables.stride[tables.tensors++] = each.stride;
  tables.stride[tables.tensors++] = p.heads;   // the statistics'
  return write_ragged_tables(tables, stream);
}

template <class P>
dnn::Pack pack_of(const P& p, std::byte* base, const Layout& layout, const float* scale) {
  dnn::Pack pack;
  const std::vector<Operand> all = operands(p);
  const auto table = static_cast<std::size_t>(listed_sequences(p.sequences) + 1) * sizeof(std::int64_t);
  for (std::size_t i = 0; i <= all.size(); ++i) {
    const auto number = static_cast<std::int64_t>(i);
    if (i < all.size()) pack.add(number, all[i].pointer);
    pack.add(kBegins + number, base + layout.begins + i * table);
  }
  pack.add(kStats, base + layout.stats);
  pack.add(kScale, scale);
  pack.add(kLengthsQ, base + layout.lengths);
  pack.add(kLengthsKv, base + layout.lengths);
  return pack;
}

template <class P>
Status run_by_cudnn(const P& p, Stream stream) {
  if (p.tokens == 0) return {};
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);   // the handle has one stream at a time
  const dnn::Plan* const plan = is_aligned(p) ? plan_for(all, p) : nullptr;
  if (plan == nullptr) return unsupported("cuDNN is not there, or has no kernel for this attention");
  const Layout layout(p, *plan);
  const auto address = reinterpret_cast<std::uintptr_t>(p.workspace);
  std::byte* const base = static_cast<std::byte*>(p.workspace) + (kPart - address % kPart) % kPart;
  auto* const stats = reinterpret_cast<float*>(base + layout.stats);
  Status status = write_tables(p, base, layout, stream);
  if constexpr (kIsBackward<P>)
    if (status.ok()) status = transpose_rows(static_cast<const float*>(p.lse), stats, p.heads, p.tokens, stream);
  const auto scale = static_cast<float>(p.scale);
  if (status.ok())
    status = execute(*plan, dnn::handle_of_device(), pack_of(p, base, layout, &scale), base + layout.library, stream);
  if constexpr (!kIsBackward<P>)
    if (status.ok()) status = transpose_rows(stats, static_cast<float*>(p.lse), p.tokens, p.heads, stream);
  return status;
}

template <class P>
Status plan_described(const std::string& json, const P& p, std::size_t* workspace) {
  if (*dnn::why_no_cudnn() != '\0') return unsupported("cuDNN is not there");
  if (!is_of_a_kind(p)) return unsupported("cuDNN is not asked for this attention");
  dnn::Maker maker;
  const dnn::Target target = described_target(maker, json);
  const dnn::Plan plan = maker.ok() ? plan_on(maker, target, p) : dnn::Plan{};
  *workspace = plan.workspace_bytes;
  if (!maker.ok()) return maker.status();
  return plan.plan == nullptr ? unsupported("cuDNN has no kernel for this attention") : Status{};
}

}  // namespace

bool cudnn_takes(const Attention& p) { return takes(p); }
bool cudnn_takes(const AttentionBackward& p) { return takes(p); }

std::size_t cudnn_workspace(const Attention& p) { return workspace_of(p); }
std::size_t cudnn_workspace(const AttentionBackward& p) { return workspace_of(p); }

Status attend_by_cudnn(const Attention& p, Stream stream) { return run_by_cudnn(p, stream); }
Status differentiate_by_cudnn(const AttentionBackward& p, Stream stream) { return run_by_cudnn(p, stream); }

Status plan_on_described_gpu(const std::string& json, const Attention& p, std::size_t* workspace) {
  return plan_described(json, p, workspace);
}
Status plan_on_described_gpu(const std::string& json, const AttentionBackward& p, std::size_t* workspace) {
  return plan_described(json, p, workspace);
}

// --- The rows of the table ---

namespace {

template <class P, Serves serves>
struct Row {
  static inline KernelEntry own;
  static inline std::vector<Variant> variants;

  /// Where variant 0, by_rows, would run.
  static bool is_free(const P& p) { return p.max_length > kShort && own.select(&p) == 0; }
  /// Plans are not compiled for anything else.
  static bool is_served(const P& p) { return serves == Serves::referee ? p.max_length >= kShort : is_free(p); }

  static Status run(const P& p, Stream stream) {
    if (!is_served(p))
      return unsupported("cuDNN is for long sequences, and only a referee where tensor cores serve them already");
    return run_by_cudnn(p, stream);
  }
  static int select(const P& p) { return is_free(p) && takes(p) ? own.variant_count : own.select(&p); }
  static std::size_t workspace(const P& p) {
    const std::size_t by_own = own.workspace(&p);
    return is_served(p) ? std::max(by_own, workspace_of(p)) : by_own;
  }

  static KernelEntry with_cudnn(const KernelEntry& row) {
    own = row;
    variants.assign(own.variants, own.variants + own.variant_count);
    variants.push_back({"cudnn", "NVIDIA's library, one operation of its graphs",
                        "not yet measured; f16, bf16, heads of a multiple of 8 up to 256, no dropout, no key_mask",
                        erased_run<P, run>, /*gpu_only=*/true});
    KernelEntry made = own;
    made.variants = variants.data();
    made.variant_count = own.variant_count + 1;
    made.select = erased_select<P, select>;
    made.workspace = erased_workspace<P, workspace>;
    return made;
  }
};

template <Serves serves>
KernelEntry row_with_cudnn(const KernelEntry& own) {
  return own.id == KernelId::attention ? Row<Attention, serves>::with_cudnn(own)
                                       : Row<AttentionBackward, serves>::with_cudnn(own);
}

}  // namespace

KernelEntry with_cudnn(const KernelEntry& own, Serves serves) {
  return serves == Serves::selection ? row_with_cudnn<Serves::selection>(own) : row_with_cudnn<Serves::referee>(own);
}

}  // namespace sinter::kernels::cuda
