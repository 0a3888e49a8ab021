#!/usr/bin/env python3
"""The README shows the programs of train/examples as they are compiled: from a line of theirs to the end of main()."""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
EXAMPLES = {"fine_tune.cpp": "  auto dataset", "training_loop.cpp": "  const int steps"}


def main():
    readme = (ROOT / "README.md").read_text()
    wrong = 0
    for name, first in EXAMPLES.items():
        program = (ROOT / "train/examples" / name).read_text()
        body = program[program.index(first):program.index("\n}", program.index(first)) + 1]
        shown = "".join("    " + line[2:] if line.strip() else line for line in body.splitlines(keepends=True))
        if shown not in readme:
            print(f"README.md does not show train/examples/{name} as it is:\n{shown}")
            wrong += 1
    return wrong


if __name__ == "__main__":
    sys.exit(main())
