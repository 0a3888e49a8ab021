#include "kernels/cuda/cublaslt.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/families.h"
#include "kernels/copy.h"
#include "kernels/cuda/cublaslt_plans.h"
#include "kernels/cuda/cublaslt_tuning.h"
#include "kernels/cuda/gemm_trials.h"
#include "kernels/cuda/vendor_library.h"

namespace sinter::kernels::cuda {

SINTER_DECLARE_FAMILIES;

namespace {

/// The table of one device; empty while it is closed.
struct Table {
  bool open = false, records = false;
  std::size_t not_timed = 0;
  std::map<GemmProblem, lt::Choice> choices;
};

/// Handles, plans and tables of the process. They live until it ends: the library may be gone before a destructor runs.
struct Plans {
  using Key = std::pair<int, GemmProblem>;   // the device, and all else that tells products apart
  std::mutex mutex;
  std::map<int, lt::Handle> handles;
  std::map<Key, lt::Plan> plans;
  std::map<int, Table> tables;

  static Plans& instance() {
    static Plans& all = *new Plans;
    return all;
  }
};

/// The plan of a problem, and the device's handle; null where there is none. The mutex is held. Making a handle
/// allocates, so a device's first product comes before a capture; plans are made on the host alone. A capture takes the
/// same algorithm as an eager step does, as long as its pointers are aligned alike up to 256 bytes: see GemmProblem.
const lt::Plan* plan_for(Plans& all, int device, const GemmProblem& problem, const void* bias, lt::Handle* handle) {
  if (!lt::library().why_not.empty() || !lt::is_taken(problem.dtype)) return nullptr;
  if (problem.m == 0 || problem.n == 0 || problem.k == 0 || problem.batch == 0 || problem.batch > INT32_MAX)
    return nullptr;
  lt::Handle& of_device = all.handles[device];
  if (of_device == nullptr && lt::library().functions.Create(&of_device) != lt::kSuccess) {
    of_device = nullptr;
    return nullptr;
  }
  *handle = of_device;
  const auto [at, is_new] = all.plans.try_emplace({device, problem});
  if (is_new) lt::make_plan(of_device, problem, bias, &at->second);
  return at->second.first ? &at->second : nullptr;
}

/// How a product is computed: as it is, or, where the library does not add this bias itself, as the sum of the product
/// and the bias that was spread over C before.
struct Way {
  Gemm gemm;
  GemmProblem problem;
  const lt::Plan* plan = nullptr;   // null: not at all
  lt::Handle handle = nullptr;
  bool spreads_bias = false;
};

/// The mutex is held.
Way way_for(Plans& all, const Gemm& p) {
  Way way{.gemm = p, .problem = lt::problem_of(p)};
  way.plan = plan_for(all, current_device(), way.problem, p.bias, &way.handle);
  if (way.plan != nullptr || p.bias == nullptr) return way;
  way.spreads_bias = true;
  way.gemm.bias = nullptr;
  way.gemm.accumulate = true;
  way.problem = lt::problem_of(way.gemm);
  way.plan = plan_for(all, current_device(), way.problem, nullptr, &way.handle);
  return way;
}

/// The algorithm that the product takes: the table's, which may be found now, or the heuristic's. The mutex is held.
lt::Choice choice_for(Plans& all, const Way& way, Stream stream) {
  const int device = current_device();
  Table& table = all.tables[device];
  if (const auto found = table.choices.find(way.problem); found != table.choices.end()) return found->second;
  if (!table.records || table.choices.size() >= kMostGemmChoices) return *way.plan->first;
  std::optional<lt::Choice> tuned;
  if (!trials::are_forbidden(device, stream))
    tuned = lt::fastest(device, way.handle, way.problem, *way.plan, way.gemm, stream);
  if (!tuned) ++table.not_timed;
  return table.choices[way.problem] = tuned.value_or(*way.plan->first);
}

/// Every row of every C becomes the bias, rounded to `dtype`.
Status spread_bias(const Gemm& p, Stream stream) {
  const Copy copy{.extents = {3, {p.batch, p.m, p.n}}, .src_strides = {{0, 0, 1}},
                  .dst_strides = {{p.batch_stride_c, p.ldc, 1}}, .src_dtype = computed_dtype(p.dtype),
                  .dst_dtype = p.dtype, .src = p.bias, .dst = p.c};
  const KernelEntry& row = *std::find_if(copy_family.entries, copy_family.entries + copy_family.count,
                                         [](const KernelEntry& each) { return each.id == Copy::id; });
  return row.variants[row.select(&copy)].run(&copy, stream);
}

}  // namespace

const char* why_no_cublaslt() { return lt::library().why_not.c_str(); }

bool cublaslt_takes(const Gemm& p) {
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  return way_for(all, p).plan != nullptr;
}

Status gemm_by_cublaslt(const Gemm& p, Stream stream) {
  if (p.m == 0 || p.n == 0 || p.batch == 0) return {};
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);  // the bias stands in the plan while the product is enqueued
  const Way way = way_for(all, p);
  if (way.plan == nullptr) return unsupported("cuBLASLt is not there, or has no algorithm for this product");
  const lt::Choice choice = choice_for(all, way, stream);
  if (way.spreads_bias)
    if (const Status status = spread_bias(p, stream); !status.ok()) return status;
  return lt::multiply(way.handle, *way.plan, choice, way.gemm, stream);
}

// --- The tables ---

namespace {

void open_table(int device) {
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  all.tables[device] = {.open = true};
}

void close_table(int device) {
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  all.tables[device] = {};
}

void record(int device, bool on) {
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  Table& table = all.tables[device];
  table.records = on && table.open;
}

Status add_choice(int device, const GemmChoice& choice) {
  if (const Status status = trials::device_api().make_current(device); !status.ok()) return status;
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  Table& table = all.tables[device];
  if (!table.open) return invalid("the table is closed");
  if (table.choices.size() >= kMostGemmChoices) return invalid("the table is full");
  const GemmProblem& problem = choice.problem;
  if (problem.alignment_bias != 0 && problem.accumulate) return invalid("bias cannot be combined with accumulate");
  lt::Handle handle = nullptr;
  // An address of the right alignment stands for the bias, which is given anew with each product.
  const auto bias = static_cast<std::uintptr_t>(problem.alignment_bias) * 3;
  const lt::Plan* const plan = plan_for(all, device, problem, reinterpret_cast<const void*>(bias), &handle);
  if (plan == nullptr) return unsupported("the library does not compute this product");
  lt::Algorithm algorithm{};
  static_assert(sizeof algorithm == sizeof choice.algorithm);
  std::memcpy(&algorithm, choice.algorithm, sizeof algorithm);
  lt::Choice checked;
  if (const Status status = lt::check(handle, problem, *plan, algorithm, &checked); !status.ok()) return status;
  table.choices[problem] = checked;
  return {};
}

std::size_t copy_choices(int device, GemmChoice* out, std::size_t capacity) {
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  const Table& table = all.tables[device];
  std::size_t written = 0;
  for (const auto& [problem, choice] : table.choices) {
    if (written == capacity) break;
    out[written].problem = problem;
    std::memcpy(out[written++].algorithm, &choice.algorithm, sizeof choice.algorithm);
  }
  return table.choices.size();
}

std::size_t not_timed(int device) {
  Plans& all = Plans::instance();
  const std::scoped_lock lock(all.mutex);
  return all.tables[device].not_timed;
}

}  // namespace

const GemmTuner& cublaslt_tuner() {
  static const GemmTuner tuner = {
      .abi = kGemmTunerAbi,
      .why_none = why_no_cublaslt,
      .library = [] {
        static const std::string version = cublaslt_version();
        return version.c_str();
      },
      .gpu = [](int device) {
        static std::mutex mutex;
        static std::map<int, std::string>& names = *new std::map<int, std::string>;
        const std::scoped_lock lock(mutex);
        const auto [at, is_new] = names.try_emplace(device);
        if (is_new) at->second = trials::gpu(device);
        return at->second.c_str();
      },
      .open = open_table,
      .close = close_table,
      .record = record,
      .add = add_choice,
      .choices = copy_choices,
      .not_timed = not_timed,
  };
  return tuner;
}

// --- The row of the table ---

namespace {

struct OwnRow {
  KernelEntry row;
  std::vector<Variant> variants;
};
OwnRow own_gemm;

int select_with_cublaslt(const void* params) {
  return cublaslt_takes(*static_cast<const Gemm*>(params)) ? own_gemm.row.variant_count : own_gemm.row.select(params);
}

std::size_t workspace_with_cublaslt(const void* params) {
  const bool may_take = lt::is_taken(static_cast<const Gemm*>(params)->dtype);
  return std::max(own_gemm.row.workspace(params), may_take ? kCublasLtWorkspace : 0);
}

}  // namespace

KernelEntry with_cublaslt(const KernelEntry& own) {
  own_gemm.row = own;
  own_gemm.variants.assign(own.variants, own.variants + own.variant_count);
  own_gemm.variants.push_back({"cublaslt", "NVIDIA's library, with the first algorithm of its heuristic, or a table's",
                               "not yet measured; f32, f16, bf16", erased_run<Gemm, gemm_by_cublaslt>,
                               /*gpu_only=*/true});
  KernelEntry row = own;
  row.variants = own_gemm.variants.data();
  row.variant_count = own.variant_count + 1;
  row.select = select_with_cublaslt;
  row.workspace = workspace_with_cublaslt;
  return row;
}

std::string cublaslt_version() {
  const std::size_t version = lt::library().functions.GetVersion();
  return "cuBLASLt " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace sinter::kernels::cuda
