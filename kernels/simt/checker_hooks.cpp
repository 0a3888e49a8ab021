// The functions that -fsanitize=thread makes the compiler call at every load and store. The checked build links these
// instead of the sanitizer's library.
#include <cstdint>
#include <cstring>

#include "kernels/simt/checker.h"

using sinter::kernels::simt::Checker;

namespace {

void access(const void* address, std::size_t bytes, bool write, const void* code) {
  if (Checker::active != nullptr) Checker::active->access(address, bytes, write, code);
}

}  // namespace

#define SINTER_CODE __builtin_return_address(0)
#define SINTER_HOOKS(n)                                                                                     \
  void __tsan_read##n(void* p) { access(p, n, false, SINTER_CODE); }                                        \
  void __tsan_write##n(void* p) { access(p, n, true, SINTER_CODE); }                                        \
  void __tsan_read_write##n(void* p) {                                                                      \
    access(p, n, false, SINTER_CODE);                                                                       \
    access(p, n, true, SINTER_CODE);                                                                        \
  }                                                                                                         \
  void __tsan_unaligned_read##n(void* p) { access(p, n, false, SINTER_CODE); }                              \
  void __tsan_unaligned_write##n(void* p) { access(p, n, true, SINTER_CODE); }                              \
  void __tsan_unaligned_read_write##n(void* p) {                                                            \
    access(p, n, false, SINTER_CODE);                                                                       \
    access(p, n, true, SINTER_CODE);                                                                        \
  }

extern "C" {
SINTER_HOOKS(1)
SINTER_HOOKS(2)
SINTER_HOOKS(4)
SINTER_HOOKS(8)
SINTER_HOOKS(16)
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_read_range(void* p, unsigned long n) { access(p, n, false, SINTER_CODE); }
void __tsan_write_range(void* p, unsigned long n) { access(p, n, true, SINTER_CODE); }
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void* __tsan_memcpy(void* to, const void* from, unsigned long n) {
  access(from, n, false, SINTER_CODE);
  access(to, n, true, SINTER_CODE);
  return std::memcpy(to, from, n);
}
void* __tsan_memmove(void* to, const void* from, unsigned long n) {
  access(from, n, false, SINTER_CODE);
  access(to, n, true, SINTER_CODE);
  return std::memmove(to, from, n);
}
void* __tsan_memset(void* to, int byte, unsigned long n) {
  access(to, n, true, SINTER_CODE);
  return std::memset(to, byte, n);
}
// Atomic variables of the host code in the same files: guards of local statics, counts of shared pointers.
std::uint8_t __tsan_atomic8_load(const volatile std::uint8_t* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
std::uint32_t __tsan_atomic32_load(const volatile std::uint32_t* p, int) {
  return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
std::uint64_t __tsan_atomic64_load(const volatile std::uint64_t* p, int) {
  return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
std::uint32_t __tsan_atomic32_fetch_add(volatile std::uint32_t* p, std::uint32_t n, int) {
  return __atomic_fetch_add(p, n, __ATOMIC_SEQ_CST);
}
std::uint64_t __tsan_atomic64_fetch_add(volatile std::uint64_t* p, std::uint64_t n, int) {
  return __atomic_fetch_add(p, n, __ATOMIC_SEQ_CST);
}
}
