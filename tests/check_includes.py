#!/usr/bin/env python3
"""Checks who includes whom (the rule of the house) and that vendor headers stay out of headers. Exit code 1 on a breach.

kernels/base <- kernels <- core <- {nn, optim, data} <- train: a folder may include what stands left of it; nn, optim and
data do not include each other; tests and bench may include anything. The emulated machine, kernels/simt, is a part of
kernels/base.
"""
import pathlib
import re
import sys

MAY_INCLUDE = {
    "kernels/base": {"kernels/base"},
    "kernels": {"kernels/base", "kernels"},
    "core": {"kernels/base", "kernels", "core"},
    "nn": {"kernels/base", "kernels", "core", "nn"},
    "optim": {"kernels/base", "kernels", "core", "optim"},
    "data": {"kernels/base", "kernels", "core", "data"},
    "train": {"kernels/base", "kernels", "core", "nn", "optim", "data", "train"},
}
VENDOR = re.compile(r"<(Eigen|cuda|cublas|cudnn|nccl|mpi|nlohmann|CLI|utf8proc|benchmark|dnnl)")
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|(<[^>]+>))')


def layer(path: pathlib.PurePath) -> str:
    return "kernels/base" if path.parts[:2] in (("kernels", "base"), ("kernels", "simt")) else path.parts[0]


def breaches(root: pathlib.Path):
    for folder in ("kernels", "core", "nn", "optim", "data", "train"):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in (".h", ".cpp", ".cu", ".cuh", ".inc"):
                continue
            name = file.relative_to(root)
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                own, system = match.groups()
                if system:
                    if VENDOR.match(system) and file.suffix == ".h":
                        yield f"{name}:{number}: vendor header {system} in a header"
                elif not (root / own).is_file():
                    yield f"{name}:{number}: \"{own}\" is not rooted at the repository"
                elif layer(pathlib.PurePath(own)) not in MAY_INCLUDE[layer(name)]:
                    yield f"{name}:{number}: {layer(name)} may not include {own}"


if __name__ == "__main__":
    found = list(breaches(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
    print("\n".join(found) or "includes: every folder includes only what stands below it")
    sys.exit(1 if found else 0)
