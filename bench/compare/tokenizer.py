#!/usr/bin/env python3
"""Sentences a second on SST-2's training set: sinter's tokenizer and Hugging Face's Rust tokenizer, in turns.

Needs `pip install tokenizers` and the program tokenizer_bench from sinter's build. Rust runs on as many threads as
sinter (RAYON_NUM_THREADS), in a process of its own. Of Hugging Face, the faster of encode_batch and encode_batch_fast
(which makes no offsets) counts; turning its results into Python lists is not part of the time. Of sinter, the call
tokenizer(sentences), which makes the columns that training reads.

usage: tokenizer.py TOKENIZER_FOLDER TRAIN_TSV [--program build/release/bin/tokenizer_bench] [--rounds 5]
                    [--threads 1 2]
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time


def read_sentences(path):
    lines = pathlib.Path(path).read_text(encoding="utf-8").split("\n")[1:]
    return [line.split("\t")[0] for line in lines if line]


def worker(folder, path):
    """For each line on standard input, one call of each kind; answers with their seconds."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    sentences = read_sentences(path)
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(sentences))
    print(json.dumps({"version": tokenizers.__version__, "sentences": len(sentences), "tokens": tokens}), flush=True)
    for _ in sys.stdin:
        seconds = {}
        for name in ("encode_batch", "encode_batch_fast"):
            start = time.perf_counter()
            encodings = getattr(tokenizer, name)(sentences)
            seconds[name] = time.perf_counter() - start
            del encodings
        print(json.dumps(seconds), flush=True)


class HuggingFace:
    def __init__(self, args, threads):
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
        self.process = subprocess.Popen([sys.executable, __file__, args.tokenizer_folder, args.train_tsv, "--worker"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.facts = json.loads(self.process.stdout.readline())

    def seconds(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def sinter_run(args, threads):
    """Sentences a second and tokens of one run of at least half a second."""
    command = [args.program, args.tokenizer_folder, args.train_tsv, f"--benchmark_filter=^encode/{threads}/",
               "--benchmark_min_time=0.5", "--benchmark_format=json"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    (result,) = json.loads(output)["benchmarks"]
    return result["items_per_second"], int(result["tokens"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tokenizer_folder")
    parser.add_argument("train_tsv")
    parser.add_argument("--program", default="build/release/bin/tokenizer_bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.tokenizer_folder, args.train_tsv)
        return
    for threads in args.threads:
        rust = HuggingFace(args, threads)
        count = rust.facts["sentences"]
        if threads == args.threads[0]:
            print(f"tokenizers {rust.facts['version']}, Python {sys.version.split()[0]}, {count} sentences, "
                  f"{rust.facts['tokens']} tokens; best of {args.rounds} alternating rounds, sentences/s")
        speeds = {"sinter": [], "encode_batch": [], "encode_batch_fast": []}
        for _ in range(args.rounds):
            speed, tokens = sinter_run(args, threads)
            if tokens != rust.facts["tokens"]:
                sys.exit(f"sinter makes {tokens} tokens, Hugging Face {rust.facts['tokens']}")
            speeds["sinter"].append(speed)
            for name, seconds in rust.seconds().items():
                speeds[name].append(count / seconds)
        rust.close()
        best = {name: max(values) for name, values in speeds.items()}
        for name, values in speeds.items():
            print(f"  {threads} thread(s)  {name:18} {best[name]:12,.0f}   (all rounds: "
                  + ", ".join(f"{value:,.0f}" for value in values) + ")")
        rust_best = max(best["encode_batch"], best["encode_batch_fast"])
        print(f"  {threads} thread(s)  ratio {best['sinter'] / rust_best:.2f}")


if __name__ == "__main__":
    main()
