#!/usr/bin/env bash
# scale_bench with two ranks and a tiny model, started by itself and by mpirun: every table is there, every figure is a
# number, and the file says the same. Bad options end it with one sentence and exit code 2.
#   bash tests/bench/scale_bench.sh BUILD
# Exit code 77 and a reason where there is no MPI.
set -euo pipefail
bin=$1/bin
if ! command -v mpirun >/dev/null 2>&1; then echo "there is no mpirun (Debian's package openmpi-bin)"; exit 77; fi
if [ ! -e "$bin/libsinter_mpi.so" ]; then
  echo "libsinter_mpi.so was not built (Debian's package libopenmpi-dev)"
  exit 77
fi
# The tests may run as root.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

check() {  # file, table, GB/s between nodes
  python3 - "$@" <<'PYTHON'
import json, math, sys
path, table, bandwidth = sys.argv[1:]
said = open(table).read()

def refuse(word):
    raise AssertionError(f"{word} is no number")

def numbers(value):
    if isinstance(value, dict):
        for part in value.values():
            yield from numbers(part)
    elif isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif value is None or isinstance(value, float):   # null is what a figure that is not finite becomes
        yield value

scale = json.load(open(path), parse_constant=refuse)
assert all(x is not None and math.isfinite(x) for x in numbers(scale))
assert "nan" not in said and "inf" not in said, said
for title in ("Collective operations", "Training steps", "Communication that backward hides", "Model"):
    assert f"\n## {title}\n" in said, title
rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in said.splitlines() if line.startswith("|")]

assert scale["ranks"] == 2 and scale["threads_of_rank"] == 1
factors = {"all_reduce": 1, "reduce_scatter": 0.5, "all_gather": 0.5, "broadcast": 1}   # of 2 ranks
times = scale["collectives"]
assert [(c["operation"], c["bytes"]) for c in times] == [(o, b) for o in factors for b in (4096, 16384, 65536)]
for c in times:
    assert 0 < c["seconds"]["low"] <= c["seconds"]["median"] <= c["seconds"]["high"]
    assert math.isclose(c["algbw_bytes_per_s"], c["bytes"] / c["seconds"]["median"])
    assert math.isclose(c["busbw_bytes_per_s"], c["algbw_bytes_per_s"] * factors[c["operation"]])
    assert any(row[:2] == [c["operation"], str(c["bytes"])] for row in rows), c

assert scale["alone_samples"] == 4 and scale["alone_s"]["median"] > 0 and scale["alone_deferring_s"]["median"] > 0
weak, strong = scale["scalings"]
assert (weak["scaling"], weak["samples"], strong["scaling"], strong["samples"]) == ("weak", 8, "strong", 4)
assert (weak["fewest_tokens"], weak["most_tokens"]) == (19, 19)   # 4 + 4 + 5 + 6
assert (strong["fewest_tokens"], strong["most_tokens"]) == (9, 10)
for s in (weak, strong):
    parts = s["parts"]
    # Parameters with and without weight decay are never in one bucket, and all of them travel.
    assert len(parts["buckets"]) >= 2 and sum(b["bytes"] for b in parts["buckets"]) == scale["gradient_bytes"]
    assert min(parts["forward_s"], parts["backward_s"], parts["update_s"]) > 0
    assert all(b["ready_s"] > 0 for b in parts["buckets"])
    for kind in ("beside_backward", "after_backward", "zero_1"):
        step = s[kind]
        assert step["seconds"]["median"] > 0 and 0 <= step["hidden_s"] <= step["under_way_s"], step
    for kind in ("none: only computes", "beside backward", "after backward", "ZeRO 1, beside backward"):
        assert any(row[:3] == [s["scaling"], kind, str(s["samples"])] for row in rows), kind

steps = scale["model"]["predictions"]
assert [(p["ranks"], p["scaling"], p["samples"]) for p in steps] == [
    (2, "weak", 8), (2, "weak", 8), (2, "strong", 4), (2, "strong", 4), (8, "weak", 32), (64, "weak", 256)]
for p in steps:
    assert p["step_s"] > 0 and ("measured_s" in p) == (p["ranks"] == 2)
assert sum(row[4:5] == ["not measured"] for row in rows) == 2
# 64 ranks send at least the model's bytes over the link of their node.
over_link = 2 * 8 * 56 / 64 * scale["gradient_bytes"] / (float(bandwidth) * 1e9)
assert steps[-1]["communication_s"] > over_link, (steps[-1], over_link)
# The longest all_reduce here has 64 KiB, and the word table 250 KiB.
assert any("drawn on" in sentence for sentence in scale["model"]["assumptions"])
for sentence in scale["model"]["assumptions"]:
    assert f"\n- {sentence}\n" in said, sentence
assert any(f"carries {bandwidth} GB/s" in sentence for sentence in scale["model"]["assumptions"])
together = weak["beside_backward"]["seconds"]["median"]
print(f"2 ranks: {1e3 * scale['alone_s']['median']:.3f} ms alone, {1e3 * together:.3f} together")
PYTHON
}

tiny=(--device cpu --shape tiny --batch_size 4 --num_threads 1 --max_bytes 65536 --repetitions 3 --spans 2 --span 1)
timeout -k 10 300 "$bin/scale_bench" --nproc 2 "${tiny[@]}" --json "$scratch/own.json" >"$scratch/own.md"
check "$scratch/own.json" "$scratch/own.md" 12.5
timeout -k 10 300 mpirun --oversubscribe --bind-to none -np 2 "$bin/scale_bench" "${tiny[@]}" --ddp_bucket_cap_mb=1 \
  --node_bandwidth 0.5 --json "$scratch/hand.json" >"$scratch/hand.md"
check "$scratch/hand.json" "$scratch/hand.md" 0.5

refuses() {  # words, options ...
  local words=$1 said code=0
  shift
  said=$(timeout -k 10 60 "$bin/scale_bench" "$@" 2>&1) || code=$?
  if [ $code -ne 2 ] || [[ $said != *"$words"* ]] || [ "$(wc -l <<<"$said")" -ne 1 ]; then
    echo "scale_bench $*: exit code $code, \"$said\", expected \"$words\""
    exit 1
  fi
}
refuses "this is one rank" --device cpu
refuses '--nproc is "1", it must be an integer from 2 to 1024' --nproc 1
refuses "--batch_size is 16, it must be a multiple of the 3 ranks" --device cpu --nproc 3
refuses '--spans is "many"' --nproc 2 --spans many
refuses '--span is "3x"' --nproc 2 --span 3x
refuses '--spans is "99999999999999999999"' --nproc 2 --spans 99999999999999999999
refuses '--shape is "huge", it must be bert-base, minilm or tiny' --nproc 2 --shape huge
refuses '--node_bandwidth is "0"' --nproc 2 --node_bandwidth 0
refuses "--length is 1" --nproc 2 --length 1
refuses "--max_bytes is 16383, it must be at least four times --min_bytes, 4096" --nproc 2 --max_bytes 16383
refuses "--json needs a value" --nproc 2 --json
refuses "--span is given more than once" --nproc 2 --span 1 --span 2
refuses "--batchsize is no option; the nearest one is --batch_size" --nproc 2 --batchsize 4
refuses '"4" belongs to no option' --nproc 2 4
refuses "gpu" --nproc 2 --device gpu
refuses "cuda:77" --nproc 2 --device cuda:77
refuses "cannot write $scratch/none/scale.json" --device cpu --nproc 2 --json "$scratch/none/scale.json"
if [ -e "$scratch/none" ]; then echo "a refused --json left a folder"; exit 1; fi
