#!/usr/bin/env python3
"""Breaks the CUDA kernels one line at a time and demands that their tests fail each time.

In a copy of the tree, each __syncthreads and __syncwarp of kernels/cuda and of the headers that it uses is removed in
turn, and in each __global__ function one bound or index is moved by one: the first `<` of a loop or a condition, else
the first index of an array; kernel_mutations.py names the place where the first is the wrong one. The race-checked build
of the tests (test_simt_checked) must then fail. Prints a table. Exit code 1 when a mutation survives or does not
compile, or when a kernel has no place to break.

  python3 tests/tools/mutate_kernels.py [--only WORD] [--jobs N]     only mutations whose file or function contains WORD
"""
import argparse
import concurrent.futures
import pathlib
import queue
import re
import sys
import tempfile
import time

import kernel_mutations
from mutated_tree import ROOT, Tree, end_on_signals

PROGRAM = "test_simt_checked"
BARRIER = re.compile(r"__sync(?:threads|warp)(?:_\w+)?\(")
KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\(")
LESS = re.compile(r"(?<=\S) <(?= [\w(])")          # a comparison; templates have no blanks around theirs
INDEX = re.compile(r"\w\[([^\[\]]+)\]")


def closing(text: str, at: int, pair: str) -> int:
    """The offset behind the bracket that closes the one at `at`."""
    depth = 0
    for i in range(at, len(text)):
        depth += (text[i] == pair[0]) - (text[i] == pair[1])
        if depth == 0:
            return i + 1
    raise ValueError("unbalanced " + pair)


def without_comments(text: str) -> str:
    """The same length, with blanks for comments."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda found: re.sub(r"[^\n]", " ", found.group()), text, flags=re.S)


def barriers(text: str):
    """(offset, old, new) of every barrier; one that also reduces keeps its argument as value."""
    for found in BARRIER.finditer(text):
        end = closing(text, found.end() - 1, "()")
        plain = found.group() in ("__syncthreads(", "__syncwarp(")
        yield found.start(), text[found.start():end], "static_cast<void>(0)" if plain else text[found.end() - 1:end]


def moved_bound(file: str, name: str, text: str, start: int, end: int):
    """One (offset, old, new) inside a kernel's body; None where there is no place."""
    named = kernel_mutations.PLACES.get((pathlib.PurePath(file).stem, name))
    if named is not None:
        old, new = named
        at = text.find(old, start, end)
        return None if at < 0 else (at, old, new)
    found = LESS.search(text, start, end)
    if found:
        return found.start(), " <", " <="
    found = INDEX.search(text, start, end)
    return (found.start(1), found.group(1), found.group(1) + " + 1") if found else None


def device_files():
    """The kernel files, and the headers of kernels/base."""
    for pattern in ("kernels/cuda/*.cu", "kernels/cuda/*.cuh", "kernels/base/*.cuh"):
        for path in sorted(ROOT.glob(pattern)):
            if path.name not in ("nvcc.cuh", "device_code.cuh"):
                yield str(path.relative_to(ROOT))


def suites_of(file: str) -> str:
    """A filter of the suites in the tests of a kernel file; of all for a header."""
    tests = ROOT / "tests/kernels/cuda" / (pathlib.PurePath(file).stem + "_test.cpp")
    every = [tests] if file.endswith(".cu") and tests.exists() else sorted(tests.parent.glob("*_test.cpp"))
    names = set()
    for path in every:
        names |= set(re.findall(r"^(?:TYPED_)?TEST(?:_[FP])?\((\w+),", path.read_text(encoding="utf-8"), re.M))
    return ":".join(f"*{name}.*:*{name}/*" for name in sorted(names))


def mutations(only: str):
    """(file, function or "barrier", offset, old, new), and the kernels without a place to break."""
    made, nowhere = [], []
    for file in device_files():
        text = without_comments((ROOT / file).read_text(encoding="utf-8"))
        line = lambda offset: text.count("\n", 0, offset) + 1
        for offset, old, new in barriers(text):
            made.append((file, f"line {line(offset)}", offset, old, new))
        for kernel in KERNEL.finditer(text):
            body = text.index("{", closing(text, kernel.end() - 1, "()"))
            place = moved_bound(file, kernel[1], text, body, closing(text, body, "{}"))
            if place is None:
                nowhere.append(f"{file}: {kernel[1]}")
            else:
                made.append((file, kernel[1], *place))
    chosen = [each for each in made if only in each[0] or only in each[1]]
    return chosen, nowhere


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    options = parser.parse_args()
    chosen, nowhere = mutations(options.only)
    if nowhere:
        sys.exit("mutate_kernels: no bound or index in " + ", ".join(nowhere) + "; add it to kernel_mutations.py")
    end_on_signals()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sinter_mutate_") as folder:
        trees = queue.Queue()
        for number in range(options.jobs):
            trees.put(Tree(pathlib.Path(folder) / str(number), PROGRAM))
        tree = trees.queue[0]
        if not tree.passes(PROGRAM, suites_of("all")):
            sys.exit("mutate_kernels: the tests fail without any mutation")
        print(f"built {options.jobs} copies in {time.monotonic() - started:.0f} s", flush=True)

        def outcome(mutation):
            file, where, offset, old, new = mutation
            tree = trees.get()
            try:
                found = tree.outcome(file, offset, old, new, [(PROGRAM, suites_of(file))])
            finally:
                trees.put(tree)
            shown = " ".join(f"{old}  ->  {new}".split())
            print(f"{found:24}  {file:34}  {where:40}  {shown}", flush=True)
            return found

        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(pool.map(outcome, chosen))
    bad = sum(found != PROGRAM for found in outcomes)
    print(f"{len(outcomes)} mutations, {len(outcomes) - bad} caught, {bad} not, {time.monotonic() - started:.0f} s")
    return 1 if bad or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
