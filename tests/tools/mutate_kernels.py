#!/usr/bin/env python3
"""Breaks the CUDA kernels at one place at a time and demands that their tests fail each time.

Each __syncthreads and __syncwarp of kernels/cuda and of the headers that it uses is left out in turn, and in each
__global__ function one bound or index is moved by one: the first `<` of a loop or a condition, else the first index of
an array; kernel_mutations.py names the place where the first is the wrong one. The race-checked tests of the kernels
(test_simt_checked) must then fail. Prints a table. Exit code 1 when a mutation survives, or when a kernel has no place
to break.

All mutations stand in one copy of the tree, built once: `r < rows` becomes `r < broken(17) + rows`, and broken(17) is 1
where the program was started with SINTER_BROKEN=17. The checkout is never written to.

  python3 tests/tools/mutate_kernels.py [--only WORD] [--jobs N]     only mutations whose file or function contains WORD
"""
import argparse
import collections
import concurrent.futures
import os
import pathlib
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

# What broken() is: declared where device code is compiled, defined in a file that the checker does not see.
DECLARED = "kernels/simt/machine.h"
DEFINED = "kernels/simt/machine.cpp"
BROKEN = """
namespace sinter::kernels { int broken(int mutation) {
  static const char* const chosen = std::getenv("SINTER_BROKEN");
  return chosen != nullptr && std::atoi(chosen) == mutation ? 1 : 0;
} }
"""

# `old` at `offset` of `file` becomes `new`, a text with {n} for the number; `shown` is how a reader would write it.
Mutation = collections.namedtuple("Mutation", "file where offset old new shown")


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
    """(offset, old, new, shown) of every barrier; one that also reduces keeps its argument as value."""
    for found in BARRIER.finditer(text):
        end = closing(text, found.end() - 1, "()")
        old = text[found.start():end]
        plain = found.group() in ("__syncthreads(", "__syncwarp(")
        without = "static_cast<void>(0)" if plain else text[found.end() - 1:end]
        yield found.start(), old, f"(broken({{n}}) ? {without} : {old})", f"{old}  ->  {without}"


def moved_bound(file: str, name: str, text: str, start: int, end: int):
    """One (offset, old, new, shown) inside a kernel's body; None where there is no place."""
    named = kernel_mutations.PLACES.get((pathlib.PurePath(file).stem, name))
    if named is not None:
        old, new = named
        at = text.find(old, start, end)
        return None if at < 0 else (at, old, f"(broken({{n}}) ? ({new}) : ({old}))", f"{old}  ->  {new}")
    found = LESS.search(text, start, end)
    if found:
        # The sum binds closer than the comparison: of integers, a < 1 + b is a <= b.
        return found.start(), " <", " < broken({n}) +", text[found.start() - 12:found.end() + 16] + "  ->  <="
    found = INDEX.search(text, start, end)
    if not found:
        return None
    index = found.group(1)
    return found.start(1), index, f"{index} + broken({{n}})", f"{found.group()}  ->  [{index} + 1]"


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


def mutations():
    """All mutations, in the order of their places, and the kernels without a place to break."""
    made, nowhere = [], []
    for file in device_files():
        text = without_comments((ROOT / file).read_text(encoding="utf-8"))
        for offset, *texts in barriers(text):
            line = text.count("\n", 0, offset) + 1
            made.append(Mutation(file, f"line {line}", offset, *texts))
        for kernel in KERNEL.finditer(text):
            body = text.index("{", closing(text, kernel.end() - 1, "()"))
            place = moved_bound(file, kernel[1], text, body, closing(text, body, "{}"))
            if place is None:
                nowhere.append(f"{file}: {kernel[1]}")
            else:
                made.append(Mutation(file, kernel[1], *place))
    return sorted(made, key=lambda m: (m.file, m.offset)), nowhere


def write_mutations(tree: pathlib.Path, made):
    """Mutation n of `made` into the copy, to happen where broken(n) is 1."""
    for n, m in reversed(list(enumerate(made))):   # from the back, so that offsets stay true
        path = tree / m.file
        text = path.read_text(encoding="utf-8")
        assert text[m.offset:m.offset + len(m.old)] == m.old, m
        path.write_text(text[:m.offset] + m.new.replace("{n}", str(n)) + text[m.offset + len(m.old):], encoding="utf-8")
    for file, added in ((DECLARED, "\nnamespace sinter::kernels { int broken(int mutation); }\n"),
                        (DEFINED, "\n#include <cstdlib>\n" + BROKEN)):
        with open(tree / file, "a", encoding="utf-8") as out:
            out.write(added)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N")
    options = parser.parse_args()
    made, nowhere = mutations()
    if nowhere:
        sys.exit("mutate_kernels: no bound or index in " + ", ".join(nowhere) + "; add it to kernel_mutations.py")
    chosen = [n for n, m in enumerate(made) if options.only in m.file or options.only in m.where]
    end_on_signals()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sinter_mutate_") as folder:
        tree = Tree(pathlib.Path(folder), PROGRAM, prepare=lambda root: write_mutations(root, made))
        if not tree.passes(PROGRAM, "*"):
            sys.exit("mutate_kernels: the tests fail without any mutation")
        print(f"built the copy and saw it pass in {time.monotonic() - started:.0f} s", flush=True)

        def caught(n):
            found = not tree.passes(PROGRAM, suites_of(made[n].file), {"SINTER_BROKEN": str(n)})
            shown = " ".join(made[n].shown.split())
            print(f"{'caught' if found else 'SURVIVED':8}  {made[n].file:32}  {made[n].where:24}  {shown}", flush=True)
            return found

        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            outcomes = list(pool.map(caught, chosen))
    survived = outcomes.count(False)
    print(f"{len(outcomes)} mutations, {len(outcomes) - survived} caught, {survived} not, "
          f"{time.monotonic() - started:.0f} s")
    return 1 if survived or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
