#!/usr/bin/env bash
# sinter beside Hugging Face's Trainer, the same with torch.compile, and a hand-tuned PyTorch loop: measures what this
# machine can run and prints the tables.
#   bash bench/compare/run.sh [--python PYTHON] [options of compare.py; --help lists them]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=python3
if [ "${1:-}" = --python ]; then
  python=${2:?--python needs a Python with torch, transformers and accelerate}
  shift 2
fi
exec "$python" "$here/compare.py" "$@"
