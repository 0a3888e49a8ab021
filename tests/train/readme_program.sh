#!/usr/bin/env bash
# The README's first program, as it stands there, on a small input: SST-2 and bert-base-uncased are folders beside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

mkdir "$scratch/SST-2"
python3 - "$scratch/SST-2" <<'EOF'
import pathlib, sys
folder = pathlib.Path(sys.argv[1])
words = [("good", 1), ("great", 1), ("dull", 0), ("bad", 0)]
for name, repeats in (("train", 40), ("dev", 3)):
    rows = [f"the film is {word} \t{label}\n" for _ in range(repeats) for word, label in words]
    (folder / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
EOF
bin=$root/build/release/bin
cd "$scratch"
"$bin/sst2" --do_train --max_steps 1 --eval_strategy no --save_strategy no --logging_strategy no \
  --output_dir bert-base-uncased
"$bin/example_fine_tune"
for file in results/model.safetensors results/config.json results/vocab.txt results/tokenizer.json \
  results/checkpoint-30/trainer_state.json \
  results/checkpoint-30/model.safetensors; do
  [ -e "$file" ] || { echo "the program did not write $file"; ls -R results; exit 1; }
done
"$bin/sst2" --model_name_or_path results --sentence "the film is good" --sentence "the film is dull"
