#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests.
#   bash tests/run.sh          the fast tier: 4 to 5 minutes on 2 cores, behind the build
#   bash tests/run.sh --full   everything: also the race checker, sanitizers, the AVX2 machine, mutations, fuzzing and
#                              the main job to its end
# With --require-cuda a machine without the CUDA toolkit is a failure; else what needs it is skipped.
# Ends with a line "N passed, N failed, N skipped"; every skipped test gives its reason above it.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here" || exit 1
full=no
require_cuda=no
for option in "$@"; do
  case "$option" in
    --full) full=yes ;;
    --require-cuda) require_cuda=yes ;;
    *) echo "tests/run.sh: \"$option\" is not known; the options are --full and --require-cuda" >&2; exit 2 ;;
  esac
done

source train/setup.sh
packages="python3 binutils libopenmpi-dev openmpi-bin"
if [ $full = yes ]; then packages+=" qemu-user clang-14 libclang-rt-14-dev"; fi
sinter_setup $packages || exit 1

results="$here/build/results"
rm -rf "$results"
mkdir -p "$results"

build() {  # preset, target ...
  local preset=$1
  shift
  echo "building $preset (log: build/$preset.log)"
  if ! { cmake --preset "$preset" && cmake --build --preset "$preset" --target "$@"; } >"build/$preset.log" 2>&1; then
    grep -E "error|FAILED" "build/$preset.log" | head -n 40 >&2
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
  fi
}

# A step that is not a GoogleTest program: passes with exit code 0, skips with 77 and its last line as the reason.
step() {  # name, command ...
  local name=$1
  shift
  echo "running $name"
  local started=$SECONDS
  "$@" >"$results/$name.log" 2>&1
  local code=$?
  printf '%s\t%s\t%s\n' "$name" "$code" "$(tail -n 1 "$results/$name.log")" >>"$results/steps.tsv"
  if [ $code -ne 0 ] && [ $code -ne 77 ]; then tail -n 40 "$results/$name.log" >&2; fi
  echo "  $name: $((SECONDS - started)) s, exit code $code"
}

# All test programs of a build, as many at once as there are processors, the largest first and in two halves. The fast
# tier leaves out those under the race checker; it and the sanitizers leave out tests named ...For200Steps: each has a
# shorter one beside it.
programs() {  # preset
  local preset=$1 program name filter='-*For200Steps*' halves half
  [ $full = yes ] && [ "$preset" = release ] && filter='*'
  for program in $(ls -S build/"$preset"/bin/{,nccl/,checked/}test_* 2>/dev/null); do
    [[ $full = no && $program = *_checked ]] && continue
    halves=1
    [[ $program = */test_train ]] && halves=2
    for ((half = 0; half < halves; ++half)); do
      name=$preset-$(basename "$program")
      [ $halves = 1 ] || name+=-$((half + 1))
      while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
      step "$name" env GTEST_TOTAL_SHARDS=$halves GTEST_SHARD_INDEX=$half \
        "$program" --gtest_brief=1 "--gtest_filter=$filter" "--gtest_output=json:$results/$name.json" &
    done
  done
  wait
}

if [ $full = yes ]; then build release all checked; else build release all; fi
step includes python3 tests/check_includes.py
step readme python3 tests/check_readme.py
step compare python3 tests/bench/compare_test.py
step rivals python3 tests/bench/rivals_test.py
programs release
# What the build leaves out without a CUDA toolkit: skipped, or failed with --require-cuda.
cuda_step() {  # name, file without which it cannot run, command ...
  local name=$1 needed=$2
  shift 2
  if [ -e "$needed" ]; then
    step "$name" "$@"
  else
    step "$name" bash -c 'echo "no CUDA toolkit was found; CUDA_HOME says where it is"; [ "$0" = no ] && exit 77' $require_cuda
  fi
}
[ -e build/release/bin/test_simt ] || cuda_step emulated_cuda build/release/bin/test_simt
cuda_step cuda_code build/release/kernels/cuda/libsinter_kernels_cuda.a python3 tests/kernels/cuda_code.py build/release
cuda_step gpu build/release/bin/test_cuda bash tests/gpu.sh
# The example learns: its last line is a mean loss well below log 2.
step example_training_loop bash -c 'set -o pipefail
  build/release/bin/example_training_loop | tee /dev/stderr | awk "END { exit !(\$NF < 0.5) }"'

step mpi bash tests/train/ranks/mpi.sh build/release
step mpi_training bash tests/train/ranks/mpi_training.sh build/release
step readme_program bash tests/train/readme_program.sh
step step_bench bash tests/bench/step_bench.sh build/release
step scale_bench bash tests/bench/scale_bench.sh build/release

if [ $full = yes ]; then
  for preset in asan tsan; do
    build $preset all
    programs $preset
  done
  step avx2_machine bash tests/qemu_avx2.sh build/release
  step main_job bash tests/train/main_job.sh
  step own_program bash tests/train/own_program.sh
  cuda_step layer_norm_alone build/release/bin/example_layer_norm bash tests/kernels/layer_norm_alone.sh build/release
  step flip_backward python3 tests/tools/flip_backward.py
  cuda_step mutate_kernels build/release/bin/test_simt_checked python3 tests/tools/mutate_kernels.py
  step fuzz bash tests/fuzz/run.sh 20
fi

python3 - "$results" <<'EOF'
import json, pathlib, sys
results = pathlib.Path(sys.argv[1])
passed, failed, skipped = 0, [], []

def reasons(name):
    """What skipped tests of a program printed, in order: the line behind each "...: Skipped"."""
    lines = (results / f"{name}.log").read_text(errors="replace").splitlines()
    return [lines[i + 1] for i, line in enumerate(lines[:-1]) if line.endswith(": Skipped")]

for name, code, last in (line.split("\t", 2) for line in (results / "steps.tsv").read_text().splitlines()):
    report = results / f"{name}.json"
    if report.exists():
        tests = [t for suite in json.loads(report.read_text())["testsuites"] for t in suite["testsuite"]]
        told = reasons(name)
        for test in tests:
            title = f"{name}: {test['classname']}.{test['name']}"
            if test.get("failures"):
                failed.append(title)
            elif test["result"] == "SKIPPED":
                skipped.append((title, told.pop(0) if told else "it gave no reason"))
            else:
                passed += 1
        if code != "0" and not any(t.get("failures") for t in tests):
            failed.append(f"{name}: exit code {code}")
    elif code == "0":
        passed += 1
    elif code == "77":
        skipped.append((name, last))
    else:
        failed.append(f"{name}: exit code {code}")
for title, reason in skipped:
    print(f"skipped {title}: {reason}")
for title in failed:
    print(f"FAILED {title}")
print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")
sys.exit(1 if failed or passed == 0 else 0)
EOF
