#!/usr/bin/env bash
# Ranks under mpirun: they give what one process gives, end together when one of them dies, hangs, runs out of memory or
# gets a signal, and go on from their checkpoint with any number of ranks.
#   bash tests/train/ranks/mpi_training.sh BUILD
set -uo pipefail
sst2=$(realpath "$1")/bin/sst2
command -v mpirun >/dev/null || { echo "there is no mpirun; on Debian it is in openmpi-bin"; exit 77; }
[ -e "$(dirname "$sst2")/libsinter_mpi.so" ] || { echo "libsinter_mpi.so was not built: CMake found no MPI"; exit 77; }
# The tests may run as root, and with more ranks than cores, which spin for each other by default.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mpi=(mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0

fails() {  # what
  echo "FAILED: $1"
  failures=$((failures + 1))
}
expect() {  # what, command ...
  local what=$1
  shift
  "$@" || fails "$what"
}
says() {  # file, words
  grep -qF -- "$2" "$1" || { fails "$1 does not say \"$2\""; tail -n 20 "$1"; }
}

small=(--use_cpu --num_threads 1 --max_steps 12 --logging_steps 1 --per_device_train_batch_size 3 --max_train_samples 50
       --eval_strategy no --save_strategy no --disable_tqdm)
losses() { grep -o "^{'loss': [0-9.]*" "$1"; }

# 50 samples in batches of 3: the last update of an epoch leaves ranks with fewer, or none.
for ranks in 2 4; do
  "$sst2" "${small[@]}" --gradient_accumulation_steps $ranks --output_dir one-$ranks >one-$ranks.log 2>&1 ||
    fails "one process that accumulates $ranks batches"
  "${mpi[@]}" -np $ranks "$sst2" "${small[@]}" --output_dir np-$ranks >np-$ranks.log 2>&1 || fails "mpirun -np $ranks"
  expect "the weights of $ranks ranks" cmp one-$ranks/model.safetensors np-$ranks/model.safetensors
  expect "the losses of $ranks ranks" diff <(losses one-$ranks.log) <(losses np-$ranks.log)
  expect "the metrics of $ranks ranks" diff <(grep -o '"eval_[al][a-z]*": [0-9.e-]*' one-$ranks/eval_results.json) \
    <(grep -o '"eval_[al][a-z]*": [0-9.e-]*' np-$ranks/eval_results.json)
done
# However gradients travel, and whoever keeps the optimizer's states.
for how in "--ddp_bucket_cap_mb 0" "--zero_stage 1"; do
  "${mpi[@]}" -np 4 "$sst2" "${small[@]}" $how --output_dir "np-4$how" >"np-4$how.log" 2>&1 || fails "mpirun -np 4 $how"
  expect "the weights of 4 ranks with $how" cmp one-4/model.safetensors "np-4$how/model.safetensors"
done
"$sst2" "${small[@]}" --nproc 2 --output_dir nproc >nproc.log 2>&1 || fails "--nproc 2"
expect "the weights of --nproc 2" cmp one-2/model.safetensors nproc/model.safetensors
[ "$(grep -c '^model: BERT' np-2.log)" = 1 ] || fails "every rank speaks"

# --- One of three ranks goes ---

# Within five seconds; a process that nobody has waited for yet has ended.
ends() {  # process id
  for _ in $(seq 50); do
    [[ ! -e /proc/$1/stat || $(awk '{ print $3 }' "/proc/$1/stat" 2>/dev/null) = Z ]] && return 0
    sleep 0.1
  done
  return 1
}

long=(--use_cpu --num_threads 1 --max_steps 100000 --logging_steps 1 --per_device_train_batch_size 2 --eval_strategy no
      --save_strategy no --disable_tqdm)
# Stops one thread, the one with the number of the process, and lets the others run.
stop_main_thread() {  # process id
  timeout 60 python3 - "$1" <<'END' &
import ctypes, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
SEIZE, INTERRUPT = 0x4206, 0x4207
pid = int(sys.argv[1])
if libc.ptrace(SEIZE, pid, 0, 0) or libc.ptrace(INTERRUPT, pid, 0, 0):
    sys.exit(f"ptrace: error {ctypes.get_errno()}")
time.sleep(60)   # a thread goes on when the one that stopped it ends
END
  stopper=$!
}

# Runs three ranks, and does something to number `rank` when they train.
disturb() {  # name, rank, command with the process id behind it ...
  local name=$1 rank=$2 started=$SECONDS pid
  shift 2
  timeout 180 "${mpi[@]}" -np 3 bash -c 'echo $$ >pid-$OMPI_COMM_WORLD_RANK-$0; exec "$@"' "$name" \
    "$sst2" "${long[@]}" --ddp_timeout "${timeout:-3}" --output_dir "$name" >"$name.log" 2>&1 &
  local job=$!
  while ! grep -qs "^{'loss'" "$name.log" && kill -0 $job 2>/dev/null && [ $((SECONDS - started)) -lt 60 ]; do sleep 0.1; done
  sleep 1.5   # by then a heartbeat has told the others which step each is in
  pid=$(cat "pid-$rank-$name")
  started=$SECONDS
  "$@" "$pid"
  wait $job
  code=$?
  [ $((SECONDS - started)) -le "${within:-20}" ] || fails "$name: it took $((SECONDS - started)) s to end"
  for pid in $(cat pid-*-"$name"); do ends "$pid" || fails "$name: process $pid is still there"; done
}

for rank in 0 2; do
  disturb killed-$rank $rank kill -KILL
  [ $code -ne 0 ] || fails "killed-$rank: exit code 0"
  says killed-$rank.log "sinter: rank $rank (pid "
  says killed-$rank.log "was lost in step "
  disturb stopped-$rank $rank kill -STOP
  [ $code -eq 1 ] || fails "stopped-$rank: exit code $code"
  says stopped-$rank.log "sinter: rank $rank (pid "
  says stopped-$rank.log "nothing came from it for 3 s"
done
# A rank whose heart beats and which goes on with no operation any more: ten times the timeout.
timeout=2 within=40 disturb absent 1 stop_main_thread
kill $stopper 2>/dev/null
[ $code -eq 1 ] || fails "absent: exit code $code"
says absent.log "sinter: rank 1 (pid "
# It was stopped before an operation or in one.
says absent.log "has waited for it in an operation for 20 s, and it "
disturb signalled 1 kill -TERM
[ $code -eq 143 ] || fails "signalled: exit code $code"
says signalled.log "stopped by Terminated at step "
ls -d signalled/checkpoint-* >/dev/null || fails "signalled: there is no checkpoint"

# Ctrl-C to --nproc, whose mpirun would kill the ranks within two seconds.
for signal in HUP USR1; do   # a process in the background ignores SIGINT; these take the same way
  "$sst2" "${long[@]}" --nproc 2 --output_dir by-$signal >by-$signal.log 2>&1 &
  waiting=$!
  for _ in $(seq 600); do grep -qs "^{'loss'" by-$signal.log && break; sleep 0.1; done
  kill -$signal $waiting
  wait $waiting
  code=$?
  [ $code -eq $((128 + $(kill -l $signal))) ] || fails "by-$signal: exit code $code"
  ls -d by-$signal/checkpoint-* >/dev/null || fails "by-$signal: there is no checkpoint"
  grep -q "^ranks: 2, " by-$signal.log || fails "by-$signal: nothing says how many ranks train"
done

# A rank whose memory ends says so, and the others end with it.
"${mpi[@]}" -np 3 bash -c '[ $OMPI_COMM_WORLD_RANK = 1 ] && ulimit -v $((1024 * 1024)); exec "$@"' - \
  "$sst2" "${long[@]/#2/4000}" --max_train_samples 8000 --output_dir memory >memory.log 2>&1
code=$?
[ $code -ne 0 ] || fails "memory: exit code 0"
says memory.log "sst2: rank 1 (pid "
grep "sst2: rank 1 (pid" memory.log | grep -qiE "memory|alloc" || fails "memory: it does not say what was missing"

# --- Checkpoints ---

saved=(--use_cpu --num_threads 1 --max_steps 12 --logging_steps 1 --per_device_train_batch_size 4 --max_train_samples 50
       --eval_strategy no --save_strategy steps --save_steps 5 --save_total_limit 9 --disable_tqdm)
"${mpi[@]}" -np 2 "$sst2" "${saved[@]}" --output_dir whole >whole.log 2>&1 || fails "a run of 2 ranks that saves"
"${mpi[@]}" -np 2 "$sst2" "${saved[@]}" --zero_stage 1 --output_dir shared >shared.log 2>&1 ||
  fails "a run of 2 ranks that share the states out"
expect "the states of a checkpoint of ranks that share them out" \
  cmp whole/checkpoint-5/optimizer.safetensors shared/checkpoint-5/optimizer.safetensors
for stage in 0 1; do   # of the run that goes on; the checkpoint is of the other one
  from=$([ $stage = 0 ] && echo shared || echo whole)
  mkdir -p resumed-$stage
  cp -r $from/checkpoint-5 resumed-$stage/
  "${mpi[@]}" -np 2 "$sst2" "${saved[@]}" --zero_stage $stage --resume_from_checkpoint true --output_dir resumed-$stage \
    >resumed-$stage.log 2>&1 || fails "2 ranks that go on"
  expect "the weights of 2 ranks that went on" cmp whole/model.safetensors resumed-$stage/model.safetensors
  says resumed-$stage.log "checkpoint-5"
done

# One command for the first start and for every start after a failure: the result is that of a run without one.
again=(--use_cpu --num_threads 1 --max_steps 300 --logging_steps 50 --per_device_train_batch_size 4 --eval_strategy no
       --save_strategy steps --save_steps 50 --disable_tqdm --ddp_timeout 3 --resume_from_checkpoint auto)
"${mpi[@]}" -np 3 "$sst2" "${again[@]}" --output_dir never-failed >never-failed.log 2>&1 || fails "3 ranks that do not fail"
(
  for _ in $(seq 1200); do [ -e failed/checkpoint-100 ] && break; sleep 0.05; done
  kill -KILL "$(cat pid-1-failed)"
) &
starts=0
until [ $starts -eq 5 ] || { starts=$((starts + 1)); "${mpi[@]}" -np 3 bash -c \
  'echo $$ >pid-$OMPI_COMM_WORLD_RANK-failed; exec "$@"' - "$sst2" "${again[@]}" --output_dir failed >failed-$starts.log 2>&1; }
do true; done
wait
[ $starts -eq 2 ] || fails "a rank was killed once, and the job was started $starts times"
says failed-2.log "resuming from failed/checkpoint-"
expect "the weights of a job that was started again" cmp never-failed/model.safetensors failed/model.safetensors

# --- What cannot be ---

refused() {  # words, command ...
  local words=$1
  shift
  "$@" >refused.log 2>&1 && fails "$*: accepted"
  says refused.log "$words"
}
refused "torchrun started 2 ranks, but ranks on the CPU exchange gradients through MPI" \
  env RANK=0 WORLD_SIZE=1 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 bash -c 'WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29533 RANK=1 LOCAL_RANK=1 "$@" & WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29533 "$@"; code=$?; wait; exit $code' - "$sst2" "${small[@]}" --output_dir torch
refused "WORLD_SIZE" env RANK=0 "$sst2" "${small[@]}" --output_dir half
refused "nproc is 3, but mpirun has started 2 ranks" "${mpi[@]}" -np 2 "$sst2" "${small[@]}" --nproc 3 --output_dir three
one=(--output_dir isa "${small[@]}")   # ranks that compute with other instructions would no longer hold one model
if grep -q avx512vl /proc/cpuinfo; then
  refused 'rank 1 has cpu_isa "avx2", and rank 0 has "avx512"' \
    "${mpi[@]}" -np 1 "$sst2" "${one[@]}" : -np 1 "$sst2" "${one[@]}" --cpu_isa avx2
else
  echo "this processor has one instruction set only: ranks that differ in it are not tried"
fi
refused "nproc is -1" "$sst2" "${small[@]}" --nproc -1 --output_dir negative

# Folders that are not one folder: of rank 1 without the checkpoint, and with another one under its name.
mkdir -p node-0/out node-1/out
cp -r whole/checkpoint-5 node-0/out/
apart=("${mpi[@]}" -np 2 bash -c 'cd "node-$OMPI_COMM_WORLD_RANK" && exec "$@"' - "$sst2" "${saved[@]}"
       --resume_from_checkpoint auto --output_dir out)
refused "rank 1 sees no checkpoint out/checkpoint-5, from which rank 0 resumes" "${apart[@]}"
cp -r whole/checkpoint-10 node-1/out/checkpoint-5
refused "the ranks resume at different steps, from 5 to 10" "${apart[@]}"

[ $failures -eq 0 ] && echo "ranks under mpirun: all as it should be"
exit $((failures > 0))
