#!/usr/bin/env python3
"""sinter and Hugging Face's Trainer on the same job, in turns, on this machine.

    python3 bench/compare/fine_tune.py --model DIR --data_dir SST-2 [--samples 2000] [--rounds 5] [--threads 2 1]
                                       [--first_step]

Both fine-tune the model in DIR for one epoch over the first rows of SST-2 (batch 16, lr 2e-5, weight decay 0.01, dropout
on, no evaluation and no checkpoint). Run it with a Python that has torch, transformers and accelerate; sinter's sst2
is looked for in build/release/bin. HF runs with each number of threads that is listed, sinter with the first. Prints
every round and a table for bench/results: samples/s as both count them, and peak resident memory of the process (the
kernel's ru_maxrss). With --first_step both train one update on the given rows instead, and what counts is the seconds
from the start of the process to the end of that update; sinter's include the end of its process, where it saves the
model.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def run(command, scratch):
    """Runs a command to its end; its standard output, its peak resident memory in MB, and its seconds."""
    log = pathlib.Path(scratch) / "stdout"
    start = time.monotonic()
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True)
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{errors}")
    return log.read_text(), usage.ru_maxrss / 1024, time.monotonic() - start


def run_hf(options, threads, scratch):
    command = [sys.executable, HERE / "hf_fine_tune.py", "--model", options.model, "--data_dir", options.data_dir,
               "--samples", options.samples, "--threads", threads, "--output_dir", pathlib.Path(scratch) / "hf"]
    if options.first_step:
        command += ["--max_steps", 1]
    output, memory, _ = run([str(part) for part in command], scratch)
    return json.loads(output.splitlines()[-1]) | {"memory": memory}


def run_sinter(options, threads, scratch):
    out = pathlib.Path(scratch) / "sinter"
    command = [options.sst2, "--model_name_or_path", options.model, "--data_dir", options.data_dir, "--do_train",
               "--output_dir", out, "--overwrite_output_dir", "--max_train_samples", options.samples,
               "--max_eval_samples", 16, "--per_device_train_batch_size", 16, "--num_train_epochs", 1,
               "--learning_rate", 2e-5, "--weight_decay", 0.01, "--lr_scheduler_type", "linear", "--warmup_ratio", 0,
               "--eval_strategy", "no", "--save_strategy", "no", "--logging_steps", 500, "--num_threads", threads,
               "--disable_tqdm"]
    if options.first_step:
        command += ["--max_steps", 1]
    _, memory, seconds = run([str(part) for part in command], scratch)
    metrics = json.loads((out / "train_results.json").read_text())
    shutil.rmtree(out)
    return {"samples_per_second": metrics["train_samples_per_second"], "first_step": seconds,
            "loss": metrics["train_loss"], "memory": memory}


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--first_step", action="store_true")
    parser.add_argument("--sst2", default=ROOT / "build/release/bin/sst2")
    options = parser.parse_args()
    if not pathlib.Path(options.sst2).is_file():
        sys.exit(f"{options.sst2} is not built; bash train/sst2.sh --help builds it")

    sides = {"sinter": lambda scratch: run_sinter(options, options.threads[0], scratch)}
    for threads in options.threads:
        sides[f"HF, {threads} threads"] = lambda scratch, threads=threads: run_hf(options, threads, scratch)
    results = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as scratch:
        for round_number in range(options.rounds):
            for name, side in sides.items():
                result = side(scratch)
                results[name].append(result)
                figure = (f"{result['first_step']:.2f} s to the first step" if options.first_step
                          else f"{result['samples_per_second']:.1f} samples/s")
                print(f"round {round_number + 1}: {name}: {figure}, {result['memory']:.0f} MB, "
                      f"loss {result['loss']:.4f}", flush=True)

    if options.first_step:
        for name, rounds in results.items():
            print(f"{name}: {spread([r['first_step'] for r in rounds])} s to the first step")
        return
    hf = max((name for name in results if name.startswith("HF")),
             key=lambda name: statistics.median(r["samples_per_second"] for r in results[name]))
    versions = results[hf][0]
    print(f"\ntorch {versions['torch']} ({versions['blas']}), transformers {versions['transformers']}, tokenizers "
          f"{versions['tokenizers']}, {versions['optim']}, attention {versions['attention']}; "
          f"{options.samples} rows, batch 16, {options.rounds} rounds in turns: median (lowest to highest)\n")
    print("| side | samples/s | peak memory, MB |\n|---|---|---|")
    for name, rounds in results.items():
        print(f"| {name} | {spread([r['samples_per_second'] for r in rounds])} | "
              f"{spread([r['memory'] for r in rounds])} |")
    ratios = [ours["samples_per_second"] / theirs["samples_per_second"]
              for ours, theirs in zip(results["sinter"], results[hf])]
    print(f"\nratio of samples/s, round by round, to {hf}: {statistics.median(ratios):.2f} "
          f"({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
