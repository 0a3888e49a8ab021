#!/usr/bin/env bash
# kernels/ in an otherwise empty folder: builds libsinter_kernels_cuda and the README's LayerNorm program there, and
# runs it.
# Without a GPU the program must say why it stops; that its lines are right is then shown on the emulated device.
# usage: layer_norm_alone.sh BUILD_FOLDER
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=$(realpath "${1:?usage: layer_norm_alone.sh BUILD_FOLDER}")
expected="-1.3416 -0.4472 0.4472 102.6833
1.3416 -0.4472 0.4472 97.3167"

shown=$("$build/bin/example_layer_norm_emulated")
[ "$shown" = "$expected" ] || { printf 'emulated, the program shows\n%s\n' "$shown"; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r kernels "$scratch/kernels"
export CCACHE_BASEDIR=$scratch
# PTX alone, which every GPU from A100 on takes: that all architectures compile was shown by the build itself.
cmake -S "$scratch/kernels" -B "$scratch/build" -G Ninja -DSINTER_CUDA=ON \
  -DSINTER_CUDA_ARCHITECTURES=80-virtual >/dev/null
cmake --build "$scratch/build" --target example_layer_norm | tail -n 1
code=0
shown=$("$scratch/build/bin/example_layer_norm") || code=$?
echo "built alone, it shows: $shown"
case $code in
  0) [ "$shown" = "$expected" ] ;;
  77) [[ $shown == "no GPU can be used: "?* ]] ;;
  *) exit 1 ;;
esac
