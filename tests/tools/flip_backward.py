#!/usr/bin/env python3
"""Breaks the backward of every op, one line at a time, and demands that a test fails each time.

Works on a copy of the tree in a temporary folder with a build folder of its own; the checkout is never written to. Each
mutation of mutations.py (a flipped sign, a swapped index, a dropped term) is applied, test_ops is built and run (for a
kernel also the kernel's own tests in test_kernels), and the file restored. Prints a table. Exit code 1 when a mutation
survives, does not fit the source any more, or does not compile, or when a differentiable op has none.

  python3 tests/tools/flip_backward.py [--only WORD]     only mutations whose op or file contains WORD
"""
import argparse
import pathlib
import re
import sys
import tempfile
import time

import mutations
from mutated_tree import ROOT, Tree, end_on_signals

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


def outcome(tree, file, old, new):
    source = (ROOT / file).read_text(encoding="utf-8")
    if source.count(old) != 1:
        return f"WRONG: the old text stands {source.count(old)} times in {file}"
    programs = [("test_ops", "*")]
    if file.startswith("kernels/"):
        programs.append(("test_kernels", KERNEL_SUITES[pathlib.PurePath(file).stem]))
    return tree.outcome(file, source.index(old), old, new, programs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD")
    only = parser.parse_args().only
    every = mutations.OPS + mutations.KERNELS
    named = {op for ops, _, _, _ in every for op in ops.split()}
    missing = sorted(differentiable_ops() - named)
    if missing:
        sys.exit("flip_backward: no mutation for " + ", ".join(missing))
    end_on_signals()
    started = time.monotonic()
    bad = tried = 0
    with tempfile.TemporaryDirectory(prefix="sinter_flip_") as folder:
        tree = Tree(pathlib.Path(folder), "test_ops", "test_kernels")
        if not (tree.passes("test_ops", "*") and tree.passes("test_kernels", ":".join(KERNEL_SUITES.values()))):
            sys.exit("flip_backward: the tests fail without any mutation")
        print(f"built the copy in {time.monotonic() - started:.0f} s", flush=True)
        for ops, file, old, new in every:
            if only not in ops and only not in file:
                continue
            found = outcome(tree, file, old, new)
            tried += 1
            bad += found not in ("test_ops", "test_kernels")
            shown = " ".join(f"{old}  ->  {new}".split())
            print(f"{found:24}  {ops:34}  {file:27}  {shown}", flush=True)
    print(f"{tried} mutations, {tried - bad} caught, {bad} not, {time.monotonic() - started:.0f} s")
    return 1 if bad or tried == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
