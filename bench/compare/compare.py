#!/usr/bin/env python3
"""Measures sinter beside its rivals on this machine and prints the tables; run.sh starts it.

    bash bench/compare/run.sh [--python PYTHON] [--gpu-only | --cpu-only] [--seconds N] [--jobs ...] [--sides ...]
        [--whole] [--again] [--show] [--results FOLDER] [--sst2 PROGRAM] [--rounds N] [--threads N]

PYTHON (default: python3) has the rivals: torch, transformers, accelerate. Without them sinter's rows are measured and
theirs say so. On a machine without a GPU the GPU's tables show what earlier runs measured, from the files in
bench/results and in the results folder, and "not yet measured" for the rest; the CPU's are measured in a short form.

--seconds N      begins nothing more behind N seconds (default 540); another call goes on where this one ended
--whole          also times the whole job, 12,630 steps, of each side (its best variant), from the process's start
                 to its end; without it only sinter's
--again          measures also what this commit measured on this device before
--show           measures nothing
--jobs, --sides  only these: sst2, 32x128, 256x128, 32x512, minilm_cpu, bert_base_cpu; sinter, hf, hf_compile,
                 torch_loop
--results FOLDER where figures are written (default: build/compare; in a pack compare_results beside bench). To keep
                 them, copy the file compare_*.json to bench/results and commit it.
"""
import argparse
import datetime
import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import figures
import jobs
import make_job
import sides
import tables

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKED = (ROOT / "bin").is_dir()   # unpacked from the archive of tests/gpu.sh --pack
BIN = ROOT / "bin" if PACKED else ROOT / "build/release/bin"
TESTED = {"torch": "2.13.0", "transformers": "5.23.0", "accelerate": "1.15.0"}
SHORTEST = 20          # seconds: a side is not begun when less is left
LONGEST_VARIANT = 240


def answer(command, default=""):
    """Standard output of a program that may be missing."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return default


def gpu():
    """(name, driver) of the first GPU, or None."""
    line = answer(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"])
    return tuple(part.strip() for part in line.split(",")[:2]) if line.count(",") == 1 else None


def host():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")), "a CPU")
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def commit():
    """With "+" and four digits of their checksum where the tree has changes. A pack says what it was made from."""
    if (ROOT / "COMMIT").exists():
        return (ROOT / "COMMIT").read_text().strip()
    found = answer(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], "unknown")
    changes = answer(["git", "-C", str(ROOT), "diff", "HEAD"])
    return found + ("+" + hashlib.sha256(changes.encode()).hexdigest()[:4] if changes else "")


def packages():
    """(name -> version or None, why the rivals cannot run or None)."""
    found = {name: importlib.metadata.version(name) if importlib.util.find_spec(name) else None for name in TESTED}
    missing = [name for name, version in found.items() if version is None]
    verb = "is" if len(missing) == 1 else "are"
    return found, f"not run: {', '.join(missing)} {verb} not installed" if missing else None


def library_path():
    """The environment of sinter's programs: a pack's libraries, and NVIDIA's of this Python's packages."""
    folders = [ROOT / "lib"] if PACKED else []
    spec = importlib.util.find_spec("nvidia")
    for place in list(spec.submodule_search_locations) if spec else []:
        folders += [pathlib.Path(place) / "cu13/lib", pathlib.Path(place) / "cudnn/lib"]
    old = os.environ.get("LD_LIBRARY_PATH")
    path = ":".join([str(folder) for folder in folders if folder.is_dir()] + ([old] if old else []))
    return os.environ | ({"LD_LIBRARY_PATH": path} if path else {})


class Session:
    """What this call measures, and where it puts it."""

    def __init__(self, options):
        self.options, self.now = options, datetime.datetime.now()
        self.run, self.commit = self.now.isoformat(timespec="seconds"), commit()
        self.deadline = time.monotonic() + options.seconds
        self.packages, self.rivals_missing = packages()
        self.environment = library_path()
        self.gpu, self.host = gpu(), host()
        self.sinter_missing = None if options.sst2.is_file() else \
            f"not built: {options.sst2.name} is not in {shown(options.sst2.parent)}"
        self.records = figures.load_all([ROOT / "bench/results", options.results])
        self.made, self.scratch = {}, None

    def left(self):
        return self.deadline - time.monotonic()

    def record(self, device, kind, driver=""):
        if device not in self.records:
            self.records[device] = figures.Record(device, kind, driver, self.host)
        record = self.records[device]
        record.driver, record.host = driver or record.driver, self.host
        return record

    def reasons(self):
        """side -> why it cannot be measured here."""
        found = {jobs.SINTER: self.sinter_missing} if self.sinter_missing else {}
        if self.rivals_missing:
            found |= {side: self.rivals_missing for side in jobs.SIDES if side != jobs.SINTER}
        return found

    def wanted(self, job, side):
        return (job.name in self.options.jobs and side in self.options.sides and side not in self.reasons()
                and not self.options.show)

    def folder(self, job):
        """The job's model and sentences, made when they are first asked for."""
        if job.name not in self.made:
            folder = pathlib.Path(self.scratch) / job.name
            print(f"making {job.title}", flush=True)
            model = pathlib.Path(self.scratch) / job.shape
            if not model.exists():
                make_job.write_model(model, job.shape)
            folder.mkdir()
            (folder / "model").symlink_to(model)
            make_job.write_data(folder / "data", job.rows, job.length)
            self.made[job.name] = folder
        return self.made[job.name]

    def without_places(self, figure):
        """A figure may be committed: its text names no folder of this machine."""
        def cleaned(text):
            for place, name in ((self.scratch, "SCRATCH"), (sys.executable, "python3"), (f"{ROOT}/", "")):
                text = text.replace(place, name)
            return text
        return figure | {name: cleaned(figure[name]) for name in ("command", "reason") if name in figure}

    def add(self, record, what, job, side, variant, measure):
        """Measures, unless this commit did, or no time is left."""
        old = record.figures.get((what, job, side, variant))
        known = old is not None and old["commit"] == self.commit and old["status"] == "measured"
        if known and not self.options.again:
            return
        title = f"{what} {job} {side} ({variant})"
        if self.left() < SHORTEST:
            print(f"no time is left for {title}; call again to go on", flush=True)
            return
        load = os.getloadavg()[0]
        figure = self.without_places(measure(self.left()))
        record.add({"what": what, "job": job, "side": side, "variant": variant, "run": self.run, "commit": self.commit,
                    "date": self.now.strftime("%Y-%m-%d %H:%M"), "load": round(load, 2), **figure})
        record.save(self.options.results)
        print(f"{title}: {figure['status']}{': ' + figure['reason'] if 'reason' in figure else ''}", flush=True)


def shown(path):
    path = pathlib.Path(path).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def measure_gpu(session, record):
    """First each side once, then the rivals' other variants, then whole jobs: a short run has something of all."""
    options, first, rest = session.options, [], []
    for job in jobs.GPU_JOBS:
        for side in jobs.SIDES:
            if session.wanted(job, side):
                for index, variant in enumerate(jobs.variants(job, side)):
                    (rest if index else first).append((job, side, variant))
    for job, side, variant in first + rest:
        def measure(left, job=job, side=side, variant=variant):
            seconds, folder = min(left, LONGEST_VARIANT), session.folder(job)
            if side == jobs.SINTER:
                return sides.sinter_step(options.sst2, job, folder, session.environment, seconds)
            return sides.rival_step(side, job, folder, jobs.variants(job, side)[variant], seconds)
        session.add(record, "step", job.name, side, variant, measure)
    for job in (job for job in jobs.GPU_JOBS if job.whole_steps):
        for side in (side for side in jobs.SIDES if session.wanted(job, side)):
            measure_whole(session, record, job, side)
    kbench = BIN / "kbench"
    if kbench.is_file() and jobs.SINTER in options.sides and not options.show:
        session.add(record, "adamw", "adamw", jobs.SINTER, "as it comes",
                    lambda left: sides.adamw(kbench, session.environment, left))


def measure_whole(session, record, job, side):
    if side == jobs.SINTER:
        session.add(record, "whole", job.name, side, "as it comes", lambda left: sides.sinter_whole(
            session.options.sst2, job, session.folder(job), session.environment, left))
        return
    variant = tables.best(record, job, side)[0]
    if session.options.whole and variant is not None:
        session.add(record, "whole", job.name, side, variant, lambda left: sides.rival_whole(
            side, job, session.folder(job), jobs.variants(job, side)[variant], left))


def measure_step_bench(session):
    """bench/step's own file of phases and kernels, beside ours."""
    program = BIN / "step_bench"
    if not program.is_file():
        return "step_bench (a step's phases and kernels): not built."
    out = session.options.results / "step.json"
    if session.left() < SHORTEST:
        return "step_bench: no time was left for it."
    code, output, error = sides.run([program, "--json", out], session.left(), session.environment)
    if code != 0:
        return f"step_bench: failed: {error}"
    return f"step_bench (its file: {shown(out)}):\n\n{output.strip()}"


def measure_cpu(session, record):
    options = session.options
    for job in jobs.CPU_JOBS:
        wanted = [side for side in (jobs.SINTER, jobs.HF) if session.wanted(job, side)]
        if not wanted:
            continue
        if session.left() < SHORTEST:
            print(f"no time is left for {job.name}; call again with --cpu-only", flush=True)
            continue
        folder = session.folder(job)
        setting = argparse.Namespace(model=folder / "model", data_dir=folder / "data", samples=job.rows,
                                     threads=options.threads, sst2=options.sst2)
        print(f"measuring {job.title}", flush=True)
        load = os.getloadavg()[0]
        measured = sides.cpu_sides(setting, wanted, options.rounds, session.scratch, session.environment)
        for side, figure in measured.items():
            record.add({"what": "cpu", "job": job.name, "side": side, "variant": f"{options.threads} threads",
                        "run": session.run, "commit": session.commit, "load": round(load, 2),
                        "date": session.now.strftime("%Y-%m-%d %H:%M"), **session.without_places(figure)})
        record.save(options.results)


def print_gpu(session, record, here):
    if record is None:
        print("\n# On a GPU\n\nThere is no GPU here, and no file of figures from one.")
    else:
        place = "" if here else ", earlier runs (this machine has no such GPU)"
        print(f"\n# On {record.device}{place}\n\nDriver {record.driver}; {record.host}. "
              "Sentences and weights are drawn; sentences are as long as SST-2's, or of full length. "
              "The goals are for an H200.")
        found = {name: version for figure in record.figures.values() for name, version in
                 figure.get("versions", {}).items()}
        if found:
            print("; ".join(f"{name} {version}" for name, version in sorted(found.items())) + ".")
    reasons = session.reasons() if here else {}
    for job in jobs.GPU_JOBS:
        print(f"\n## {job.title}\n\n{tables.step_table(record, job, session.run, reasons)}\n")
        print(tables.variant_lines(record, job))
    print(f"\n## The optimizer alone\n\n{tables.adamw_table(record, session.run)}")


def print_cpu(session, record):
    print(f"\n# On the CPU\n\n{record.host}. A short form of fine_tune.py, whose longer runs are in "
          "bench/results/fine_tune.md.")
    for job in jobs.CPU_JOBS:
        print(f"\n## {job.title}\n\n{tables.cpu_table(record, job, session.run, session.reasons())}")
    loads = [figure["load"] for figure in record.figures.values() if figure["run"] == session.run]
    if loads and max(loads) > 0.5:
        print(f"\nThe machine was busy (load {max(loads):.1f} before a measurement): these speeds say little.")


def parsed_options():
    parser = argparse.ArgumentParser(prog="run.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [job.name for job in jobs.GPU_JOBS + jobs.CPU_JOBS]
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--gpu-only", action="store_true")
    only.add_argument("--cpu-only", action="store_true")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--jobs", nargs="+", choices=names, default=names)
    parser.add_argument("--sides", nargs="+", choices=jobs.SIDES, default=list(jobs.SIDES))
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--results", type=pathlib.Path,
                        default=ROOT / ("compare_results" if PACKED else "build/compare"))
    parser.add_argument("--sst2", type=pathlib.Path, default=BIN / "sst2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def print_machine(session):
    print(f"commit {session.commit}, {session.host}, load {os.getloadavg()[0]:.1f}; "
          + (f"GPU: {session.gpu[0]}, driver {session.gpu[1]}" if session.gpu else "no GPU"))
    print(f"Python {sys.version.split()[0]}; " + "; ".join(
        f"{name} {'is not installed' if version is None else version}"
        + ("" if version is None or version.split("+")[0] == TESTED[name] else f" (tried with {TESTED[name]})")
        for name, version in session.packages.items()), flush=True)


def main():
    options = parsed_options()
    try:
        session = Session(options)
    except figures.BadFile as error:
        sys.exit(str(error))
    print_machine(session)
    gpu_record = session.record(session.gpu[0], "cuda", session.gpu[1]) if session.gpu else None
    cpu_record = session.record(f"CPU {session.host}", "cpu")
    step_bench = None
    with tempfile.TemporaryDirectory() as session.scratch:
        if gpu_record and not options.cpu_only:
            measure_gpu(session, gpu_record)
            step_bench = None if options.show else measure_step_bench(session)
        if not options.gpu_only:
            measure_cpu(session, cpu_record)
    if not options.cpu_only:
        earlier = [record for record in session.records.values() if record.kind == "cuda" and record is not gpu_record]
        if gpu_record or not earlier:
            print_gpu(session, gpu_record, gpu_record is not None)
        for record in earlier:
            print_gpu(session, record, False)
        if step_bench:
            print("\n" + step_bench)
    if not options.gpu_only:
        print_cpu(session, cpu_record)


if __name__ == "__main__":
    main()
