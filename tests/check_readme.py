#!/usr/bin/env python3
"""The README shows the example programs as they are compiled: from a line of theirs to the end of main()."""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = {
    "train/examples/fine_tune.cpp": "  auto dataset",
    "train/examples/training_loop.cpp": "  const int steps",
    "kernels/examples/layer_norm.cpp": "  const BackendModule& cuda",
}


def main():
    readme = (ROOT / "README.md").read_text()
    wrong = 0
    for name, first in EXAMPLES.items():
        program = (ROOT / name).read_text()
        body = program[program.index(first):program.index("\n}", program.index(first)) + 1]
        shown = "".join("    " + line[2:] if line.strip() else line for line in body.splitlines(keepends=True))
        if shown not in readme:
            print(f"README.md does not show {name} as it is:\n{shown}")
            wrong += 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
