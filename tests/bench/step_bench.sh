#!/usr/bin/env bash
# step_bench on small models: on the CPU, and in 16 bits, captured, on the emulated device. What it prints and what it
# writes agree; bad options end it with one sentence.
#   bash tests/bench/step_bench.sh BUILD
set -euo pipefail
bin=$1/bin
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

check() {  # file, table, device's first word, does the step run as a graph, has it floors
  python3 - "$@" <<'PYTHON'
import json, sys
path, table, device, replayed, floors = sys.argv[1:]
step = json.load(open(path))
said = open(table).read()
launches = step["launches"]
assert step["device"].startswith(device) and step["device"] in said, step["device"]
assert step["replayed"] == (replayed == "yes"), step["replayed"]
assert step["tokens"] == 211 and step["samples"] == 16
assert {x["phase"] for x in launches} == {"forward", "backward", "update"}
kernels = [x["kernel"] for x in launches]
for kernel, count in (("attention", 2), ("attention_backward", 2), ("adamw", 1), ("squared_norm", 1)):
    assert kernels.count(kernel) == count, (kernel, kernels.count(kernel))
assert {x["phase"] for x in launches if x["kernel"] == "adamw"} == {"update"}
assert all(x["us"] >= 0 for x in launches) and sum(x["us"] for x in launches) > 0
assert any(x["floor_us"] > 0 for x in launches) == (floors == "yes")
# The products of a BERT of 2 layers, 64 wide: forward, by inputs and by weights; pooler and classifier see 16 rows.
layer = 4 * 64 * 64 + 2 * 64 * 128
expected = 6 * (2 * layer * 211 + (64 * 64 + 64 * 2) * 16)
found = sum(x["flops"] for x in launches if x["kernel"] == "gemm")
padded = expected * 256 / 211   # a graph's tokens are rounded up
assert expected <= found <= padded, (expected, found, padded)
assert f"Its {len(launches)} kernels" in said
print(f"{device}: {len(launches)} kernels, {step['ms_per_step']['median']:.3f} ms")
PYTHON
}

"$bin/step_bench" --device cpu --shape tiny --spans 3 --json "$scratch/cpu.json" >"$scratch/cpu.md"
check "$scratch/cpu.json" "$scratch/cpu.md" CPU no yes
if [ -e "$bin/libsinter_simt.so" ]; then
  "$bin/step_bench" --device simt --dtype fp16 --shape tiny --spans 2 --span 1 --json "$scratch/simt.json" \
    >"$scratch/simt.md"
  check "$scratch/simt.json" "$scratch/simt.md" emulated yes no
fi

refuses() {  # words, options ...
  local words=$1 said code=0
  shift
  said=$("$bin/step_bench" "$@" 2>&1) || code=$?
  if [ $code -eq 0 ] || [[ $said != *"$words"* ]] || [ "$(wc -l <<<"$said")" -ne 1 ]; then
    echo "step_bench $*: exit code $code, \"$said\", expected \"$words\""
    exit 1
  fi
}
refuses "--length" --length 1
refuses "huge" --shape huge
refuses "the CPU computes in f32 only" --device cpu --dtype fp16
refuses "gpu" --device gpu
refuses "--spans" --spans 0
