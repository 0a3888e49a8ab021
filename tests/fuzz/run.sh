#!/usr/bin/env bash
# Builds the fuzz targets and runs each of them for some seconds.
#   bash tests/fuzz/run.sh SECONDS [TARGET ...]     targets as the files name them: json, safetensors ...; default: all
# Exit code 1 on a finding, whose input is then in build/fuzz/findings. Inputs that were found interesting stay in
# build/fuzz/corpus; files under tests/fuzz/regressions/TARGET (findings of the past) are always tried.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
seconds=${1:-}
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "tests/fuzz/run.sh: \"$seconds\" is no number of seconds; usage: bash tests/fuzz/run.sh SECONDS [TARGET ...]" >&2
  exit 2
fi
shift
source train/setup.sh
sinter_setup python3 clang-14 libclang-rt-14-dev || exit 1

mkdir -p build/fuzz/findings build/fuzz/logs
if ! { cmake --preset fuzz && cmake --build --preset fuzz; } >build/fuzz/logs/build.log 2>&1; then
  grep -E "error|FAILED" build/fuzz/logs/build.log | head -n 40 >&2
  exit 1
fi
python3 tests/fuzz/make_seeds.py build/fuzz/corpus || exit 1

targets=("$@")
if [ $# -eq 0 ]; then
  for program in build/fuzz/bin/fuzz_*; do targets+=("${program##*/fuzz_}"); done
fi
findings=0
for target in "${targets[@]}"; do
  corpora=("build/fuzz/corpus/$target")
  [ -d "tests/fuzz/regressions/$target" ] && corpora+=("tests/fuzz/regressions/$target")
  # A reader that asks for 64 MB in one block believed an input of at most 64 kB.
  if "build/fuzz/bin/fuzz_$target" "${corpora[@]}" -dict="build/fuzz/corpus/$target.dict" -max_total_time="$seconds" \
      -max_len=65536 -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=64 -print_final_stats=1 \
      -artifact_prefix="build/fuzz/findings/$target-" >"build/fuzz/logs/$target.log" 2>&1; then
    awk -v target="$target" '
      /number_of_executed_units/ { runs = $2 }
      / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") edges = $(i + 1) }
      END { printf "%-12s no finding in %d runs, %d edges covered\n", target, runs, edges }
    ' "build/fuzz/logs/$target.log"
  else
    findings=$((findings + 1))
    echo "$target: a finding; build/fuzz/logs/$target.log ends with:"
    tail -n 30 "build/fuzz/logs/$target.log"
  fi
done
[ $findings -eq 0 ] && echo "${#targets[@]} targets ran $seconds s each without a finding" || exit 1
