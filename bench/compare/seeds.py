#!/usr/bin/env python3
"""Do sinter and Hugging Face's Trainer reach the same accuracy? One epoch with dropout, five seeds a side.

    python3 bench/compare/seeds.py --model DIR --data_dir SST-2 [--samples 20000] [--seeds 1 2 3 4 5]
                                   [--threads 1] [--jobs 2]

Both fine-tune the model in DIR (whose classifier is new, so that the seed draws it too) for one epoch over the first
rows of SST-2's training set: batch 16, lr 2e-5, linear decay without warm-up, weight decay 0.01, dropout 0.1. What
counts is the accuracy on the 872 dev sentences. Runs `jobs` trainings at a time, each on `threads` threads: no speed
is to be read from it. Prints every figure, then both means; ends with 1 when they are more than one point apart. Needs
what fine_tune.py needs.
"""
import argparse
import concurrent.futures
import statistics
import sys
import tempfile

import fine_tune

POINTS = 1.0


def train(options, side, seed):
    run, extra = {"HF": (fine_tune.run_hf, ["--eval"]), "sinter": (fine_tune.run_sinter, ["--do_eval"])}[side]
    with tempfile.TemporaryDirectory() as scratch:
        result = run(options, options.threads, scratch, ["--seed", seed, *extra])
    print(f"{side}, seed {seed}: accuracy {result['accuracy']:.4f}, train loss {result['loss']:.4f}", flush=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--sst2", default=fine_tune.ROOT / "build/release/bin/sst2")
    options = parser.parse_args()

    sides = ("sinter", "HF")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        runs = {(side, seed): pool.submit(train, options, side, seed) for side in sides for seed in options.seeds}
        results = {key: run.result() for key, run in runs.items()}
    versions = results["HF", options.seeds[0]]
    print(f"\ntorch {versions['torch']}, transformers {versions['transformers']}, tokenizers {versions['tokenizers']}; "
          f"the first {options.samples} rows\n")
    print("| side |" + "".join(f" seed {seed} |" for seed in options.seeds) + " mean | standard deviation |")
    print("|---" * (len(options.seeds) + 3) + "|")
    means = {}
    for side in sides:
        points = [100 * results[side, seed]["accuracy"] for seed in options.seeds]
        means[side] = statistics.mean(points)
        spread = statistics.stdev(points) if len(points) > 1 else 0
        print(f"| {side} |" + "".join(f" {value:.2f} |" for value in points) + f" {means[side]:.2f} | {spread:.2f} |")
    difference = means["sinter"] - means["HF"]
    print(f"\nsinter's mean is {difference:+.2f} points from HF's")
    sys.exit(0 if abs(difference) <= POINTS else 1)


if __name__ == "__main__":
    main()
