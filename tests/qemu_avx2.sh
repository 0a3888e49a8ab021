#!/usr/bin/env bash
# Proves that one binary uses AVX-512 where it is there and runs where it is not:
#   1. the object with the AVX-512 kernels shows the linker nothing but its table, so no instruction of it can leak;
#   2. the kernel tests pass on an emulated processor that has AVX2 and no AVX-512;
#   3. the same binary selects AVX-512 here, if this machine has it.
# usage: qemu_avx2.sh BUILD_FOLDER      exits 77 (skipped) when qemu-user is absent
set -euo pipefail

build=${1:?usage: qemu_avx2.sh BUILD_FOLDER}

for isa in avx2 avx512; do
  object=$build/kernels/cpu_$isa.o
  visible=$(nm -C "$object" | grep -E ' [A-TV-Zuvw] ' || true)   # defined and global, weak or unique
  if [[ $(wc -l <<<"$visible") -ne 1 || $visible != *" T sinter_cpu_kernels_$isa" ]]; then
    printf '%s must show one symbol, its table; it shows:\n%s\n' "$object" "$visible" >&2
    exit 1
  fi
done
echo "cpu_avx2.o and cpu_avx512.o show their tables only"

if ! command -v qemu-x86_64 >/dev/null; then
  echo "skipped: qemu-x86_64 is not installed (Debian: qemu-user), so the AVX2 machine cannot be emulated"
  exit 77
fi

# One test of each family, because emulation is some thirty times slower. OptimizerTest.LowCopy* cannot pass here:
# QEMU's VCVTPS2PH obeys flush-to-zero, the processor's does not.
tests=$build/bin/test_kernels
filter='Isa.*:Gemm.Batches:Gemm.NonFinite*:Gemm.LeavesGaps*:Gemm.BitsDoNotDependOnLeading*:Attention.MatchesReferenceF32'
filter+=':LayerNormTest/0.*Matches*:BiasGeluTest/0.*Matches*:DropoutTest/0.Matches*:OptimizerTest/0.AdamWMatches*'
filter+=':OptimizerTest/0.SquaredNormMatches*:Softmax.Matches*:CrossEntropy.Matches*:Copy.Float*:Unary.Float*:Reduce.Nan*'
output=$(qemu-x86_64 -cpu Haswell "$tests" --gtest_filter="$filter" 2>/dev/null) || { echo "$output"; exit 1; }
grep -q 'instruction set: avx2' <<<"$output"
grep 'PASSED' <<<"$output"
if grep -qw avx512vl /proc/cpuinfo; then
  "$tests" --gtest_filter='Isa.*' | grep 'instruction set: avx512'
fi
