#!/usr/bin/env python3
"""sinter and Hugging Face's Trainer on the same job, in turns, on this machine.

    python3 bench/compare/fine_tune.py --model DIR --data_dir SST-2 [--samples 2000] [--rounds 5] [--threads 2 1]
                                       [--first_step]

Both fine-tune the model in DIR for one epoch over the first rows of SST-2 (batch 16, lr 2e-5, weight decay 0.01, dropout
on, no evaluation and no checkpoint). Run it with a Python that has torch, transformers and accelerate; sinter's sst2
is looked for in build/release/bin. HF runs with each number of threads that is listed, sinter with the first. Prints
every round and a table for bench/results: samples/s as both count them, and peak resident memory of the process (the
kernel's ru_maxrss). With --first_step both train one update on the given rows instead, and what counts is the seconds
from the start of the process to the end of that update (sinter: to its line in the log).
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


class Failed(SystemExit):
    """A side that did not end well; says its command and what it wrote. Ends the program where nobody catches it."""


def run(command, scratch, marker=None, environment=None):
    """Runs a command to its end; its standard output, its peak resident memory in MB, and the seconds from its start to
    the first line that begins with `marker`. Failed when its exit code is not 0."""
    start, seconds, lines = time.monotonic(), None, []
    with open(pathlib.Path(scratch) / "stderr", "w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        for line in process.stdout:
            if marker and seconds is None and line.startswith(marker):
                seconds = time.monotonic() - start
            lines.append(line)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            raise Failed(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{errors.read()}")
    return "".join(lines), usage.ru_maxrss / 1024, seconds


def run_hf(options, threads, scratch, extra=()):
    command = [sys.executable, HERE / "hf_fine_tune.py", "--model", options.model, "--data_dir", options.data_dir,
               "--samples", options.samples, "--threads", threads, "--output_dir", pathlib.Path(scratch) / "hf", *extra]
    output, memory, _ = run([str(part) for part in command], scratch)
    return json.loads(output.splitlines()[-1]) | {"memory": memory}


def run_sinter(options, threads, scratch, extra=(), environment=None):
    out = pathlib.Path(scratch) / "sinter"
    command = [options.sst2, "--model_name_or_path", options.model, "--data_dir", options.data_dir, "--do_train",
               "--output_dir", out, "--overwrite_output_dir", "--max_train_samples", options.samples,
               "--per_device_train_batch_size", 16, "--num_train_epochs", 1, "--learning_rate", 2e-5,
               "--weight_decay", 0.01, "--lr_scheduler_type", "linear", "--warmup_ratio", 0, "--eval_strategy", "no",
               "--save_strategy", "no", "--logging_first_step", "--num_threads", threads, "--use_cpu",
               "--disable_tqdm", *extra]
    _, memory, seconds = run([str(part) for part in command], scratch, marker="{'loss'", environment=environment)
    metrics = json.loads((out / "all_results.json").read_text())
    shutil.rmtree(out)
    return {"samples_per_second": metrics["train_samples_per_second"], "first_step": seconds,
            "loss": metrics["train_loss"], "accuracy": metrics.get("eval_accuracy"), "memory": memory}


def spread(values, digits=1):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


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

    extra = ["--max_steps", 1] if options.first_step else []
    sides = {"sinter": lambda scratch: run_sinter(options, options.threads[0], scratch, extra)}
    for threads in options.threads:
        sides[f"HF, {threads} threads"] = lambda scratch, threads=threads: run_hf(options, threads, scratch, extra)
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
            print(f"{name}: {spread([r['first_step'] for r in rounds], 2)} s to the first step")
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
