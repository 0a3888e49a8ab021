#!/usr/bin/env python3
"""What the README's program saves, read by transformers, and what transformers saves, read by sinter: the same logits.

Needs `pip install torch transformers` and the programs sst2, example_fine_tune and line_logits from sinter's build. Trains
the README's program on a small table, loads its folder and its checkpoint in transformers, lets transformers save them in
turn, and loads those in sinter. The sentences are the dev split's, or odd ones.

usage: model_interop.py [--bin build/release/bin]
Exit code 1 when a logit differs by more than 2e-6.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

TOLERANCE = 2e-6   # f32, logits of about 1
WORDS = [("good", 1), ("great", 1), ("dull", 0), ("bad", 0)]
SENTENCES = ["the film is good", "the film is not at all dull .", "never anything but great", "", "x" * 200,
             "caf\u00e9 na\u00efve", "[MASK] [SEP] film", "the " * 300]


def sinter_logits(options, folder, save_to=None):
    command = [options.bin / "line_logits", folder] + (["--save_to", save_to] if save_to else [])
    lines = "".join(sentence + "\n" for sentence in SENTENCES)
    output = subprocess.run(command, input=lines, check=True, stdout=subprocess.PIPE, text=True).stdout
    return torch.tensor([[float(number) for number in line.split()] for line in output.splitlines()])


def hf_logits(folder, save_to=None):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, report = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    if report["missing_keys"] or report["unexpected_keys"]:
        sys.exit(f"{folder}: {report}")
    if save_to:
        model.save_pretrained(save_to)
        tokenizer.save_pretrained(save_to)
    with torch.no_grad():
        return torch.cat([model.eval()(**tokenizer(sentence, truncation=True, return_tensors="pt")).logits
                          for sentence in SENTENCES])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/release/bin"))
    options = parser.parse_args()
    options.bin = options.bin.resolve()
    transformers.logging.set_verbosity_error()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    worst = 0.0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "SST-2").mkdir()
        for name, repeats in (("train", 40), ("dev", 3)):
            rows = [f"the film is {word} \t{label}\n" for _ in range(repeats) for word, label in WORDS]
            (scratch / "SST-2" / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
        quiet = {"cwd": scratch, "check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run([options.bin / "sst2", "--do_train", "--max_steps", "1", "--eval_strategy", "no",
                        "--save_strategy", "no", "--output_dir", "bert-base-uncased"], **quiet)
        subprocess.run([options.bin / "example_fine_tune"], **quiet)
        for name in ("results", "results/checkpoint-30"):
            ours = sinter_logits(options, scratch / name)
            steps = {"transformers reads it": hf_logits(scratch / name, scratch / "hf"),
                     "sinter reads what transformers saved": sinter_logits(options, scratch / "hf", scratch / "again"),
                     "transformers reads what sinter saved of that": hf_logits(scratch / "again")}
            for step, logits in steps.items():
                difference = (logits - ours).abs().max().item()
                worst = max(worst, difference)
                print(f"{name}, {step}: {len(SENTENCES)} rows, largest difference {difference:.1e}")
    return 1 if worst > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
