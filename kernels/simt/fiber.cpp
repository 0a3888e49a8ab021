#include "kernels/simt/fiber.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the registers that a function must keep (System V ABI, x86-64) on the stack, stores the stack pointer in *save
// and goes on where `load` was saved. Signal masks stay: swapcontext's system call for them costs ten times all this.
extern "C" void sinter_simt_switch(void** save, void* load);
asm(R"(
.text
.globl sinter_simt_switch
.type sinter_simt_switch, @function
sinter_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size sinter_simt_switch, .-sinter_simt_switch
)");

namespace sinter::kernels::simt {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t kStackBytes = 256 << 10;   // red zones around every local variable
#else
constexpr std::size_t kStackBytes = 64 << 10;
#endif
constexpr std::size_t kSavedRegisters = 6;
constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kColours = 61;

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

Fiber::Fiber() {
  pthread_attr_t attributes;
  void* lowest = nullptr;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) throw std::bad_alloc();
  pthread_attr_getstack(&attributes, &lowest, &bytes_);
  pthread_attr_destroy(&attributes);
  stack_ = static_cast<std::byte*>(lowest);
}

Fiber::Fiber(void (*body)(), unsigned number) : body_(body), bytes_(kStackBytes), number_(number), owns_stack_(true) {
  void* memory = mmap(nullptr, page_bytes() + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, page_bytes(), PROT_NONE);
  stack_ = static_cast<std::byte*>(memory) + page_bytes();
  restart();
}

Fiber::~Fiber() {
  if (owns_stack_) munmap(stack_ - page_bytes(), page_bytes() + bytes_);
}

void Fiber::restart() {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack_, bytes_);
#endif
  fake_stack_ = nullptr;
  void** top = reinterpret_cast<void**>(stack_ + bytes_ - kCacheLine * (1 + number_ % kColours));
  *--top = nullptr;                              // the body's own return address: it never returns
  *--top = reinterpret_cast<void*>(body_);       // where the switch's `ret` goes
  for (std::size_t i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  stack_pointer_ = top;
}

void Fiber::switch_between(Fiber& from, Fiber& to) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&from.fake_stack_, to.stack_, to.bytes_);
#endif
  sinter_simt_switch(&from.stack_pointer_, to.stack_pointer_);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(from.fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::entered() {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

}  // namespace sinter::kernels::simt
