#!/usr/bin/env bash
# The main job to its end: at least 95 % on the held-out reviews within 3 minutes; a coin's accuracy on shuffled labels.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
started=$SECONDS
build/release/bin/sst2 --output_dir "$out/reviews"
elapsed=$((SECONDS - started))
python3 - "$out/reviews" "$elapsed" <<'EOF'
import json, pathlib, sys
folder, elapsed = pathlib.Path(sys.argv[1]), int(sys.argv[2])
accuracy = json.loads((folder / "all_results.json").read_text())["eval_accuracy"]
print(f"accuracy {accuracy:.4f} after {elapsed} s (at least 0.95 within 180 s)")
sys.exit(0 if accuracy >= 0.95 and elapsed <= 180 and (folder / "model.safetensors").exists() else 1)
EOF
build/release/bin/shuffled_labels "$out/shuffled"
