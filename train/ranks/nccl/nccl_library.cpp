#include "train/ranks/nccl/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>

#ifdef SINTER_HAS_NCCL_HEADER   // CMake found it, and CUDA's, which it includes
#include <nccl.h>

#include <type_traits>
#endif

namespace sinter::train {
namespace {

constexpr const char* kName = "libnccl.so.2";

/// The function of an open library; `why_not` where it has none of this name.
template <class Function>
void find(void* library, const char* name, Function*& function, std::string* why_not) {
  const std::string symbol = std::string("nccl") + name;
  void* const address = dlsym(library, symbol.c_str());
  if (address == nullptr && why_not->empty()) *why_not = std::string(kName) + " has no function " + symbol;
  function = reinterpret_cast<Function*>(address);
}

std::string find_all(void* library, nccl::Functions* f) {
  std::string why_not;
  find(library, "GetVersion", f->GetVersion, &why_not);
  find(library, "GetErrorString", f->GetErrorString, &why_not);
  find(library, "GetLastError", f->GetLastError, &why_not);
  find(library, "GetUniqueId", f->GetUniqueId, &why_not);
  find(library, "CommInitRank", f->CommInitRank, &why_not);
  find(library, "CommGetAsyncError", f->CommGetAsyncError, &why_not);
  find(library, "CommAbort", f->CommAbort, &why_not);
  find(library, "CommDestroy", f->CommDestroy, &why_not);
  find(library, "AllReduce", f->AllReduce, &why_not);
  find(library, "ReduceScatter", f->ReduceScatter, &why_not);
  find(library, "AllGather", f->AllGather, &why_not);
  find(library, "Broadcast", f->Broadcast, &why_not);
  return why_not;
}

std::string version_of(const nccl::Functions& functions) {
  int version = 0;
  if (functions.GetVersion(&version) != nccl::kSuccess) return "NCCL of an unknown version";
  return "NCCL " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace

std::vector<std::string> nccl_places() {
  std::string toolkit = "/usr/local/cuda";
  if (const char* home = std::getenv("CUDA_HOME"); home != nullptr && home[0] != '\0') toolkit = home;
  return {kName, toolkit + "/lib64/" + kName};
}

NcclLibrary load_nccl(const std::vector<std::string>& places) {
  void* library = nullptr;
  std::string said;   // of the first place
  for (const std::string& path : places) {
    if (library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); library != nullptr) break;
    if (const char* const words = dlerror(); said.empty() && words != nullptr) said = words;
  }
  if (library == nullptr) return {.why_unusable = std::string("there is no ") + kName + " (" + said + ")"};
  nccl::Functions functions{};
  if (std::string why_not = find_all(library, &functions); !why_not.empty()) return {.why_unusable = why_not};
  return {.functions = new nccl::Functions(functions), .version = version_of(functions)};   // as long as the library
}

#ifdef SINTER_HAS_NCCL_HEADER
namespace {

using namespace nccl;

static_assert(kSuccess == ncclSuccess && kInProgress == ncclInProgress && sizeof(Answer) == sizeof(ncclResult_t));
static_assert(kU8 == ncclUint8 && kI32 == ncclInt32 && kI64 == ncclInt64 && kF32 == ncclFloat32 &&
              kF64 == ncclFloat64 && sizeof(DataType) == sizeof(ncclDataType_t));
static_assert(kSum == ncclSum && kMax == ncclMax && sizeof(ReduceOp) == sizeof(ncclRedOp_t));
static_assert(sizeof(UniqueId) == sizeof(ncclUniqueId) && alignof(UniqueId) == alignof(ncclUniqueId));

/// Both functions take as many arguments, and each of the same size and kind as in the header.
template <class Ours, class Theirs>
constexpr bool fit() {
  constexpr auto scalar = [](auto type) {
    using T = typename decltype(type)::type;
    return std::is_pointer_v<T> ? 1 : std::is_class_v<T> ? 2 : 3;
  };
  return sizeof(Ours) == sizeof(Theirs) &&
         scalar(std::type_identity<Ours>{}) == scalar(std::type_identity<Theirs>{});
}
template <class R, class... Ours, class S, class... Theirs>
constexpr bool same_call(R (*)(Ours...), S (*)(Theirs...)) {
  if constexpr (sizeof...(Ours) == sizeof...(Theirs))
    return fit<R, S>() && (fit<Ours, Theirs>() && ...);
  else
    return false;
}

constexpr Functions kNone{};
static_assert(same_call(kNone.GetVersion, ncclGetVersion) && same_call(kNone.GetErrorString, ncclGetErrorString) &&
              same_call(kNone.GetLastError, ncclGetLastError) && same_call(kNone.GetUniqueId, ncclGetUniqueId) &&
              same_call(kNone.CommInitRank, ncclCommInitRank) &&
              same_call(kNone.CommGetAsyncError, ncclCommGetAsyncError) &&
              same_call(kNone.CommAbort, ncclCommAbort) && same_call(kNone.CommDestroy, ncclCommDestroy) &&
              same_call(kNone.AllReduce, ncclAllReduce) && same_call(kNone.ReduceScatter, ncclReduceScatter) &&
              same_call(kNone.AllGather, ncclAllGather) && same_call(kNone.Broadcast, ncclBroadcast));

}  // namespace
#endif

}  // namespace sinter::train
