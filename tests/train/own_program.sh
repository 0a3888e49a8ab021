#!/usr/bin/env bash
# A program of one's own, as the README says: a folder with a CMakeLists.txt of its own that takes sinter in.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The README's lines, with this repository as the folder sinter.
awk '/^    cmake_minimum_required/ { on = 1 } on && !/^    / { exit } on { sub(/^    /, ""); print }' README.md \
  >"$scratch/CMakeLists.txt"
grep -q "sinter::sinter" "$scratch/CMakeLists.txt" || { echo "README.md shows no CMakeLists.txt"; exit 1; }
ln -s "$root" "$scratch/sinter"
cp train/examples/fine_tune.cpp "$scratch/my_program.cpp"
echo 'static int unused;  // a warning that is not ours to judge' >>"$scratch/my_program.cpp"
export CCACHE_BASEDIR=$scratch
cmake -S "$scratch" -B "$scratch/build" -G Ninja >/dev/null
cmake --build "$scratch/build" --target my_program | tail -n 1
# Neither the data nor the model is there, and the program says so.
(cd "$scratch" && HF_HOME=$scratch build/my_program 2>&1 || true) | tee /dev/stderr | grep -q "data_dir SST-2 does not exist"
