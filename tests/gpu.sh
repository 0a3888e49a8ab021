#!/usr/bin/env bash
# Everything that only a real GPU can show, in one call of at most 8 minutes:
#   bash tests/gpu.sh            runs what build/release has, or what a pack has beside this script
#   bash tests/gpu.sh --pack     builds, and packs what a machine with a GPU and no compiler needs: build/gpu.tar.xz
#                                (there: tar xf gpu.tar.xz && bash gpu/tests/gpu.sh; sinter beside PyTorch, of which
#                                that machine has its own, is gpu/bench/compare/run.sh)
# Logs, the kernels' times beside their goals (kernels.md) and those of a training step (step.md) go to gpu_results/
# beside the programs' folder. Ends with a line "N passed, N failed, N skipped". Exit code 77, with the reason, where no
# GPU can be used.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
programs="test_cuda test_cuda_module test_core test_ops test_nn test_optim test_train
  sst2 example_layer_norm kbench step_bench"

# bench/compare needs no data: models and sentences are made there. Earlier figures go along, and what was built.
pack_compare() {  # folder
  mkdir -p "$1/bench/compare" "$1/bench/results"
  cp "$here"/bench/compare/{*.py,run.sh,sst2_shape.json} "$1/bench/compare/" || return 1
  find "$here/bench/results" -name 'compare_*.json' -exec cp -t "$1/bench/results" {} +
  (cd "$here/bench/compare" && python3 -B -c 'import compare; print(compare.commit())') >"$1/COMMIT"
}

pack() {
  local folder=$here/build/gpu program
  (cd "$here" && cmake --preset release >/dev/null &&
    cmake --build --preset release --target $programs sinter_cuda) || return 1
  rm -rf "$folder"
  mkdir -p "$folder/bin" "$folder/lib" "$folder/tests"
  for program in $programs libsinter_cuda.so; do
    strip -o "$folder/bin/$program" "$here/build/release/bin/$program" || return 1
    # The machine's own C library and loader stay its own.
    ldd "$folder/bin/$program" | awk '$3 ~ /^\// { print $3 }' | grep -vE '/(libc|libm|libdl|librt|libpthread)\.so' |
      xargs -r cp -L -t "$folder/lib" || return 1
  done
  cp "$here/tests/gpu.sh" "$folder/tests/"
  pack_compare "$folder" || return 1
  # The same kernels stand in four of the files: a long memory makes the archive a third of its size.
  tar -C "$here/build" -c gpu | xz --lzma2=preset=1,dict=192MiB >"$here/build/gpu.tar.xz" || return 1
  du -h "$here/build/gpu.tar.xz"
}

case "${1:-}" in
  "") ;;
  --pack) pack; exit ;;
  *) echo "tests/gpu.sh: \"$1\" is not known; the option is --pack" >&2; exit 2 ;;
esac

bin=$here/build/release/bin results=$here/build/gpu_results
if [ -d "$here/bin" ]; then
  bin=$here/bin results=$here/gpu_results
  export LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
# cuBLASLt, cuDNN and NCCL may stand in a Python environment only.
nvidia=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null)
for folder in "$nvidia/cu13/lib" "$nvidia/cudnn/lib" "$nvidia/nccl/lib"; do
  if [ -d "$folder" ]; then export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder; fi
done
deadline=$((SECONDS + 480))

for program in $programs; do
  [ -x "$bin/$program" ] && continue
  echo "there is no $bin/$program; first, with a CUDA toolkit: cmake --preset release && cmake --build --preset release"
  exit 77
done
shown=$("$bin/example_layer_norm" 2>&1)
code=$?
if [ $code -eq 77 ]; then
  echo "$shown"
  exit 77
fi
rm -rf "$results"
mkdir -p "$results"
nvidia-smi 2>&1 | tee "$results/nvidia-smi.log" | sed -n 3,4p

passed=0 failed=0 skipped=0
verdict() {  # name, exit code, what it means
  case $2 in
    0) passed=$((passed + 1)); echo "passed  $1: $3" ;;
    77) skipped=$((skipped + 1)); echo "skipped $1: $3" ;;
    *) failed=$((failed + 1)); echo "FAILED  $1: $3" ;;
  esac
}

# Passes with exit code 0, skips with 77; cut off after its seconds, or when the 8 minutes end.
step() {  # name, seconds, command ...
  local name=$1 limit=$2 left=$((deadline - SECONDS)) started=$SECONDS code
  shift 2
  if [ $left -le 0 ]; then
    verdict "$name" 1 "no time was left for it"
    return 1
  fi
  timeout -k 5 $((limit < left ? limit : left)) "$@" >"$results/$name.log" 2>&1
  code=$?
  if [ $code -ne 0 ] && [ $code -ne 77 ]; then tail -n 30 "$results/$name.log"; fi
  verdict "$name" $code "exit code $code after $((SECONDS - started)) s; $(tail -n 1 "$results/$name.log")"
  return $code
}

# A GoogleTest program, of which at least one test must have run: a backend that does not load skips them all.
run_tests() {
  set -o pipefail
  "$@" --gtest_brief=1 2>&1 | awk '{ print } /^\[  PASSED  \] [1-9]/ { ran = 1 } END { exit !ran }'
}
export -f run_tests

# The README's program.
example() {
  [ "$code" -eq 0 ] && [ "$shown" = "-1.3416 -0.4472 0.4472 102.6833
1.3416 -0.4472 0.4472 97.3167" ]
  verdict layer_norm $? "$(echo $shown)"
}

# compute-sanitizer refuses some devices ("Device not supported"), which is no finding.
sanitizer() {  # tool, filter of the tests
  if ! command -v compute-sanitizer >/dev/null; then echo "there is no compute-sanitizer here"; return 77; fi
  if timeout 10 compute-sanitizer --tool "$1" "$bin/example_layer_norm" 2>&1 | grep -qi "device not supported"; then
    echo "compute-sanitizer refuses this device"
    return 77
  fi
  compute-sanitizer --tool "$1" --error-exitcode 1 --print-limit 20 "$bin/test_cuda" --gtest_filter="$2" --gtest_brief=1
}
export -f sanitizer
export bin results

# The losses of 50 steps with dropout follow the CPU's: both draw the same masks, and sums in f32 round differently.
losses() {  # device
  "$bin/sst2" --device "$1" --max_steps 50 --logging_steps 1 --eval_strategy no --save_strategy no \
    --output_dir "$results/losses-$BASHPID" | grep -o "^{'loss': [0-9.]*" | grep -o "[0-9.]*$"
}
loss_curve() {
  paste <(losses "$1") <(losses cpu) | awk '
    { d = $1 > $2 ? $1 - $2 : $2 - $1; if (d > worst) worst = d }
    END { printf "%d steps, the largest difference is %.4f (at most 0.001)\n", NR, worst
          exit !(NR == 50 && worst <= 0.001) }'
}
export -f losses loss_curve

# Ranks over NCCL, as threads with a GPU each: all operations, in captured steps too.
nccl() {  # ranks
  local said code reason
  said=$("$bin/test_train" --gtest_brief=1 --gtest_filter="Devices/NcclOnGpus.*/cuda_$1_ranks" 2>&1)
  code=$?
  echo "$said"
  reason=$(grep -A1 ': Skipped$' <<<"$said" | sed -n 2p)
  if [ -n "$reason" ]; then echo "$reason"; return 77; fi
  return $code
}

# Two processes with a GPU each lose what one does that accumulates two batches.
rank_losses() {
  local rank
  for rank in 1 0; do
    RANK=$rank WORLD_SIZE=2 LOCAL_RANK=$rank LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29400 \
      "$bin/sst2" --device cuda --max_steps 50 --logging_steps 1 --eval_strategy no --save_strategy no \
      --output_dir "$results/ranks" &
  done | grep -o "^{'loss': [0-9.]*" | grep -o "[0-9.]*$"
}
one_losses() {
  "$bin/sst2" --device cuda --gradient_accumulation_steps 2 --max_steps 50 --logging_steps 1 --eval_strategy no \
    --save_strategy no --output_dir "$results/one" | grep -o "^{'loss': [0-9.]*" | grep -o "[0-9.]*$"
}
two_ranks() {
  if [ "$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')" -lt 2 ]; then echo "two ranks need two GPUs"; return 77; fi
  paste <(rank_losses) <(one_losses) | awk '
    { d = $1 > $2 ? $1 - $2 : $2 - $1; if (d > worst) worst = d }
    END { printf "%d steps, the largest difference is %.4f (at most 0.001)\n", NR, worst
          exit !(NR == 50 && worst <= 0.001) }'
}
export -f nccl rank_losses one_losses two_ranks

# The main job on the GPU: at least 95 % on the held-out reviews, as on the CPU.
train() {
  local out=$results/reviews accuracy
  "$bin/sst2" --device cuda --output_dir "$out" || return 1
  accuracy=$(grep -o '"eval_accuracy": *[0-9.]*' "$out/all_results.json" | grep -o '[0-9.]*$')
  echo "accuracy $accuracy (at least 0.95)"
  awk "BEGIN { exit !($accuracy >= 0.95) }"
}
export -f train

example
step test_cuda_module 30 bash -c 'run_tests "$bin/test_cuda_module"'
step test_cuda 120 bash -c 'run_tests "$bin/test_cuda"'
while read -r _ library; do verdict "${library%% *}" 77 "$library"; done < <(grep '^skipped: ' "$results/test_cuda.log")
for program in test_core test_ops test_nn test_optim test_train; do  # what they ask of every device
  step $program 60 bash -c 'run_tests "$bin/$1" --gtest_filter="Devices/*/cuda*-*NcclOnGpus*"' - $program
done
step nccl 60 bash -c 'nccl 1'
step nccl_two_gpus 60 bash -c 'nccl 2'
step two_ranks 60 bash -c two_ranks
step loss_curve 30 bash -c 'loss_curve cuda'
step train 90 bash -c train
step kernels 120 bash -c '"$bin/kbench" >"$results/kernels.md" && tail -n 1 "$results/kernels.md"'
step step 60 bash -c '"$bin/step_bench" --json "$results/step.json" >"$results/step.md" && tail -n 1 "$results/step.md"'
step memcheck 90 bash -c 'sanitizer memcheck "*f32*:*f16*:*Ragged*-*bf16*:*ByCudnn*"'
step racecheck 60 bash -c 'sanitizer racecheck "*/f32*"'
cat "$results/kernels.md" "$results/step.md"
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
