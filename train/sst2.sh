#!/usr/bin/env bash
# Installs what is missing, builds, and runs the main job. Options are those of `sst2 --help`; without any, a small BERT
# learns generated reviews in less than a minute on a CPU.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/train/setup.sh"
packages=""
if [[ " $* " == *" --nproc"* ]]; then packages="libopenmpi-dev openmpi-bin"; fi
sinter_setup $packages
log="$here/build/release.log"
mkdir -p "$here/build"
# The backends of devices are libraries of their own, which take minutes more: only where they may be used.
targets=sst2
if [ -e /dev/nvidiactl ] || [[ " $* " == *[\ =]cuda* ]]; then targets+=" cuda_backend"; fi
if [[ " $* " == *[\ =]simt* ]]; then targets+=" simt_backend"; fi
if [ -n "$packages" ]; then targets+=" sinter_mpi"; fi
echo "building sst2, which takes minutes the first time (log: $log)" >&2
(cd "$here" && cmake --preset release && cmake --build --preset release --target $targets) >"$log" 2>&1 || {
  tail -n 40 "$log" >&2
  exit 1
}
if [ "$targets" != sst2 ]; then grep "is left out" "$log" >&2 || true; fi
exec "$here/build/release/bin/sst2" "$@"
