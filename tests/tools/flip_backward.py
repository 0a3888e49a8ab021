#!/usr/bin/env python3
"""Breaks the backward of every op, one line at a time, and demands that a test fails each time.

Works on a copy of the tree in a temporary folder with a build folder of its own; the checkout is never written to. Each
mutation of mutations.py (a flipped sign, a swapped index, a dropped term) is applied, test_ops is built and run (for a
kernel also the kernel's own tests in test_kernels), and the file restored. Prints a table. Exit code 1 when a mutation
survives, does not fit the source any more, or does not compile, or when a differentiable op has none.

  python3 tests/tools/flip_backward.py [--only WORD]     only mutations whose op or file contains WORD
"""
import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import mutations

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOT_DIFFERENTIABLE = {"logical_not", "compare", "logical", "argmax"}
# Suites of test_kernels that see a kernel file.
KERNEL_SUITES = {
    "attention": "Attention*", "bias_gelu": "BiasGelu*", "gelu_fit": "BiasGelu*",
    "cross_entropy": "CrossEntropy*", "embedding": "Embedding*",
    "layer_norm": "LayerNorm*", "layer_norm_rows": "LayerNorm*:Embedding*", "softmax": "Softmax*",
}


def differentiable_ops():
    text = (ROOT / "core/ops/registry.h").read_text(encoding="utf-8")
    table = text[text.index("#define SINTER_OPS(X)"):text.index("#define SINTER_DECLARE_OP")]
    return set(re.findall(r"X\((\w+)\)", table.split("\n", 1)[1])) - NOT_DIFFERENTIABLE


def copy_tree(target: pathlib.Path):
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            capture_output=True)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:  # an archive without git
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
        names = [name for name in names if not name.startswith(("build/", "."))]
    for name in names:
        if not (ROOT / name).is_file() or name.startswith("shared/"):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)


class Tree:
    """The copy, its build folder, and how a mutation is tried in it."""

    def __init__(self, folder: pathlib.Path):
        self.root = folder / "tree"
        self.build = self.root / "build" / "release"
        self.environment = dict(os.environ, CCACHE_BASEDIR=str(self.root), CCACHE_NOHASHDIR="1")
        copy_tree(self.root)
        self.command(["cmake", "--preset", "release", "-DSINTER_BENCH=OFF"], check=True)
        self.compile("test_ops", "test_kernels", check=True)

    def command(self, arguments, check=False, seconds=1800):
        """The exit code; a test that never ends counts as failed."""
        try:
            done = subprocess.run(arguments, cwd=self.root, env=self.environment, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", timeout=seconds)
        except subprocess.TimeoutExpired:
            return -1
        if check and done.returncode != 0:
            sys.exit("flip_backward: " + " ".join(arguments) + " failed\n" + done.stdout[-4000:])
        return done.returncode

    def compile(self, *targets, check=False):
        return self.command(["cmake", "--build", str(self.build), "--target", *targets], check) == 0

    def passes(self, program, suites):
        # The first failure decides; a crash counts as one.
        command = [str(self.build / "bin" / program), "--gtest_brief=1", "--gtest_fail_fast",
                   "--gtest_filter=" + suites]
        return self.command(command, seconds=120) == 0

    def outcome(self, file, old, new):
        """What became of one mutation: the program that failed, or what is wrong."""
        path = self.root / file
        source = path.read_text(encoding="utf-8")
        if source.count(old) != 1:
            return f"WRONG: the old text stands {source.count(old)} times in {file}"
        programs = [("test_ops", "*")]
        if file.startswith("kernels/"):
            programs.append(("test_kernels", KERNEL_SUITES[path.stem]))
        try:
            path.write_text(source.replace(old, new), encoding="utf-8")
            for program, suites in programs:
                if not self.compile(program):
                    return "WRONG: does not compile"
                if not self.passes(program, suites):
                    return program
            return "SURVIVED"
        finally:
            path.write_text(source, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD")
    only = parser.parse_args().only
    every = mutations.OPS + mutations.KERNELS
    named = {op for ops, _, _, _ in every for op in ops.split()}
    missing = sorted(differentiable_ops() - named)
    if missing:
        sys.exit("flip_backward: no mutation for " + ", ".join(missing))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # so that the copy is removed
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    started = time.monotonic()
    bad = tried = 0
    with tempfile.TemporaryDirectory(prefix="sinter_flip_") as folder:
        tree = Tree(pathlib.Path(folder))
        if not (tree.passes("test_ops", "*") and tree.passes("test_kernels", ":".join(KERNEL_SUITES.values()))):
            sys.exit("flip_backward: the tests fail without any mutation")
        print(f"built the copy in {time.monotonic() - started:.0f} s", flush=True)
        for ops, file, old, new in every:
            if only not in ops and only not in file:
                continue
            outcome = tree.outcome(file, old, new)
            tried += 1
            bad += outcome not in ("test_ops", "test_kernels")
            shown = " ".join(f"{old}  ->  {new}".split())
            print(f"{outcome:24}  {ops:34}  {file:27}  {shown}", flush=True)
    print(f"{tried} mutations, {tried - bad} caught, {bad} not, {time.monotonic() - started:.0f} s")
    return 1 if bad or tried == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
