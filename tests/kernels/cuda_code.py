#!/usr/bin/env python3
"""Checks what nvcc made of kernels/cuda, and that its flags refuse what they must. Needs no GPU.

    python3 tests/kernels/cuda_code.py BUILD_FOLDER

1. The object of each kernel file holds code for sm_80 and sm_90a and PTX for what came later.
2. libsinter_cuda.so shows its tables of kernels and of tuned products, and needs no library of CUDA's.
3. The very command that compiles a kernel fails on registers that spill, on local memory and on a warning, and takes a
   kernel without them.
"""
import pathlib
import re
import shlex
import struct
import subprocess
import sys
import tempfile

WANTED = {"sm_80", "sm_90a", "compute_90"}
# Name, kernel, and what nvcc must say of it; "" where it must compile.
KERNELS = {
    "clean": ("__global__ void k(float* x) { x[threadIdx.x] *= 2; }", ""),
    "spills": ("""__global__ void __launch_bounds__(1024, 1) k(float* x) {
  float v[96];  // more than the 64 registers that 1,024 threads leave each other
#pragma unroll
  for (int i = 0; i < 96; ++i) v[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 96; ++i) x[(95 - i) * 1024 + threadIdx.x] = v[i] * v[(i * 7 + 3) % 96];
}""", "spilled to local memory"),
    "local memory": ("""__global__ void k(float* x, const int* at) {
  float v[64];  // registers have no addresses
  for (int i = 0; i < 64; ++i) v[at[i] % 64] = x[i];
  x[64] = v[at[64] % 64];
}""", "Local memory used"),
    "a warning": ("__global__ void k(float* x) { int unused; x[0] = 1; }", "never referenced"),
}


def architectures(data):
    """What the fat binaries in an object file are for: {"sm_80", "compute_90"}."""
    found, at = set(), data.find(b"\x50\xed\x55\xba")
    while at >= 0:
        _, header, size = struct.unpack_from("<HHQ", data, at + 4)
        entry = at + header
        while entry < at + header + size:
            kind, _, entry_header, entry_size = struct.unpack_from("<HHIQ", data, entry)
            arch, = struct.unpack_from("<I", data, entry + 28)
            flags, = struct.unpack_from("<I", data, entry + 40)
            # 0x100000: code that uses what only this architecture has, the "a" behind its number.
            found.add(("compute_" if kind == 1 else "sm_") + str(arch) + ("a" if flags & 0x100000 else ""))
            entry += entry_header + entry_size
        at = data.find(b"\x50\xed\x55\xba", at + 4)
    return found


def check_architectures(build, kernels):
    wrong = 0
    for kernel in kernels:
        object_file = build / f"kernels/cuda/CMakeFiles/kernels_cuda.dir/{kernel.name}.o"
        text = kernel.read_text()
        found = architectures(object_file.read_bytes())
        if "__global__" in text and found != WANTED:
            print(f"{object_file} holds code for {sorted(found)}, not for {sorted(WANTED)}")
            wrong += 1
    return wrong


def check_library(build):
    library = str(build / "bin/libsinter_cuda.so")
    said = [subprocess.run([*command, library], check=True, capture_output=True, text=True).stdout
            for command in (["nm", "-D", "--defined-only"], ["readelf", "-d"])]
    shown = [line.split()[-1] for line in said[0].splitlines()]
    needed = re.findall(r"NEEDED.*\[(.*)\]", said[1])
    system = re.compile(r"(libc|libm|libdl|librt|libstdc\+\+|libgcc_s|libpthread|ld-linux.*)\.so")
    wrong = [name for name in needed if not system.match(name)]
    if sorted(shown) != ["sinter_backend_module", "sinter_gemm_tuner"] or wrong:
        print(f"{library} shows {shown} and needs {wrong}")
        return 1
    return 0


def compile_command(build):
    """How the build compiles a kernel file: arguments, with the names of the files left out."""
    target = "kernels/cuda/CMakeFiles/kernels_cuda.dir/layer_norm.cu.o"
    lines = subprocess.run(["ninja", "-C", str(build), "-t", "commands", target], check=True, capture_output=True,
                           text=True).stdout.splitlines()
    words = shlex.split(lines[-1])
    first = next(i for i, word in enumerate(words) if pathlib.PurePath(word).name == "nvcc")
    kept, skip = [], False
    for word in words[first:]:
        if word in ("-MT", "-MF", "-c", "-o"):
            skip = True
        elif skip:
            skip = False
        elif word != "-MD":
            kept.append(word)
    return kept


def check_flags(build):
    wrong = 0
    command = compile_command(build)
    with tempfile.TemporaryDirectory() as folder:
        for name, (text, says) in KERNELS.items():
            source = pathlib.Path(folder, "kernel.cu")
            source.write_text(text + "\n")
            run = subprocess.run([*command, "-c", str(source), "-o", f"{folder}/kernel.o"], capture_output=True,
                                 text=True)
            heard = run.stdout + run.stderr
            if (run.returncode == 0) != (says == "") or says not in heard:
                print(f"{name}: nvcc ended with {run.returncode} and said:\n{heard}")
                wrong += 1
    return wrong


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    kernels = sorted((pathlib.Path(__file__).resolve().parents[2] / "kernels/cuda").glob("*.cu"))
    wrong = check_architectures(build, kernels) + check_library(build) + check_flags(build)
    if not wrong:
        print(f"{len(kernels)} kernel files compiled for {', '.join(sorted(WANTED))}; spills, local memory and "
              "warnings end the build")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
