#!/usr/bin/env bash
# The checks of every ProcessGroup over MPI: processes that mpirun starts on this machine, as root and on fewer
# processors than ranks where it must be so. Usage: mpi.sh <build folder>. Exit code 77 and a reason where there is no MPI.
set -euo pipefail
build=$1
program=$build/bin/mpi_ranks
if ! command -v mpirun >/dev/null 2>&1; then echo "there is no mpirun (Debian's package openmpi-bin)"; exit 77; fi
if [ ! -e "$build/bin/libsinter_mpi.so" ]; then echo "libsinter_mpi.so was not built (Debian's package libopenmpi-dev)"; exit 77; fi
if ldd "$program" | grep -i "libmpi"; then echo "a program of sinter needs MPI to start"; exit 1; fi

# Ranks share the processors, nothing goes over a network, and a hang ends.
ranks() {  # ranks, words of mpi_ranks ...
  local count=$1
  shift
  timeout -k 10 300 mpirun --allow-run-as-root --oversubscribe --bind-to none -np "$count" \
    --mca btl self,vader --mca mpi_yield_when_idle 1 "$program" --gtest_brief=1 "$@"
}

for count in 1 2 3 4; do
  # Pieces and messages of a few elements; then the defaults.
  ranks $count checks 100 24
  ranks $count checks 4194304 1073741824
done
ranks 2 large
ranks 3 large
"$program" --gtest_brief=1 checks 4194304 1073741824   # without mpirun: a job of one rank

code=0
ranks 3 aborts || code=$?
if [ $code -ne 7 ]; then echo "a rank ended all with exit code 7, and mpirun gave $code"; exit 1; fi
echo "all operations over MPI"
