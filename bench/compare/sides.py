"""Runs one side of a comparison once, and says what it measured.

Every function returns the part of a figure (figures.py) that it knows, with status "measured" or "failed". A side is a
process of its own; it is ended when it takes longer than it may.
"""
import functools
import json
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import threading
import time

import fine_tune
from jobs import COMPILED, HF, LOOP, SINTER

HERE = pathlib.Path(__file__).resolve().parent
LEARNING_RATE, WEIGHT_DECAY = 2e-5, 0.01


def failed(reason, command=()):
    """`reason` in one line that a table can hold."""
    return {"status": "failed", "reason": " ".join(str(reason).replace("|", "/").split())[-240:],
            "command": shlex.join(map(str, command))}


def run(command, seconds, environment=None, on_line=None):
    """(exit code or None when it was ended, standard output, last line of standard error). on_line(line, time)."""
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env=environment) as process:
        ended, lines, errors = [], [], []
        reader = threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True)
        reader.start()
        timer = threading.Timer(seconds, lambda: (ended.append(True), process.kill()))
        timer.start()
        for line in process.stdout:
            if on_line:
                on_line(line, time.perf_counter())
            lines.append(line)
        process.wait()
        timer.cancel()
        reader.join()
    last = next((line.strip() for line in reversed(errors) if line.strip()), "it said nothing")
    return None if ended else process.returncode, "".join(lines), last


def step_figure(spans, batch, command, **more):
    """From the milliseconds of a step in each span."""
    if not spans:
        return failed("it ended before a span was timed", command)
    median = statistics.median(spans)
    return {"status": "measured", "samples_per_s": batch / median * 1000, "command": shlex.join(map(str, command)),
            "ms_per_step": {"median": median, "low": min(spans), "high": max(spans), "spans": len(spans)}, **more}


def rival_command(side, job, folder, options, device="cuda"):
    """`options`: of the variant, and what is to be run. In fp16 on a GPU; on a CPU f32, which only tests ask for."""
    program = HERE / ("torch_loop.py" if side == LOOP else "hf_fine_tune.py")
    command = [sys.executable, program, "--model", folder / "model", "--data_dir", folder / "data", "--device", device,
               "--batch_size", job.batch, "--max_length", 512, *options]
    if side in (HF, COMPILED):
        command += ["--output_dir", folder / "rival", *(["--fp16"] if device == "cuda" else [])]
    return command


def clocked(job):
    return ["--warm_up", job.warm_up, "--timed_steps", job.timed, "--span", job.span]


def rival_result(command, seconds):
    """(the program's object, None), or (None, the failed figure)."""
    code, output, error = run(command, seconds)
    if code is None:
        return None, failed(f"it did not end in {seconds:.0f} s", command)
    if code != 0:
        return None, failed(error, command)
    return json.loads(output.splitlines()[-1]), None


def versions_of(result):
    return {name: result[name] for name in ("torch", "transformers", "tokenizers", "cudnn", "attention", "optim")
            if result.get(name) is not None}


def rival_step(side, job, folder, variant_options, seconds, device="cuda"):
    command = rival_command(side, job, folder, [*variant_options, *clocked(job)], device)
    result, failure = rival_result(command, seconds)
    return failure or step_figure(result["ms_per_step"], job.batch, command, peak_mib=result["peak_mib"],
                                  versions=versions_of(result))


def rival_whole(side, job, folder, variant_options, seconds):
    """The whole job, three epochs, with the model saved at its end."""
    save = ["--save", folder / "rival.safetensors"] if side == LOOP else ["--save"]
    command = rival_command(side, job, folder, [*variant_options, "--num_train_epochs", 3, *save])
    start = time.monotonic()
    result, failure = rival_result(command, seconds)
    return failure or {"status": "measured", "seconds": time.monotonic() - start, "versions": versions_of(result),
                       "command": shlex.join(map(str, command))}


def sinter_command(sst2, job, folder, options, device="cuda"):
    return [sst2, "--device", device, *(["--fp16"] if device == "cuda" else []), "--do_train", "--overwrite_output_dir",
            "--model_name_or_path", folder / "model", "--data_dir", folder / "data", "--output_dir", folder / "sinter",
            "--per_device_train_batch_size", job.batch, "--max_seq_length", 512, "--learning_rate", LEARNING_RATE,
            "--weight_decay", WEIGHT_DECAY, "--lr_scheduler_type", "linear", "--warmup_ratio", 0, "--eval_strategy",
            "no", "--save_strategy", "no", "--disable_tqdm", *options]


def device_line(output):
    return next((line[8:] for line in output.splitlines() if line.startswith("device: ")), "")


def sinter_step(sst2, job, folder, environment, seconds, device="cuda"):
    """A log line every `span` steps is when the device has finished them."""
    if job.warm_up % job.span:
        raise ValueError(f"{job.name}: warm_up {job.warm_up} is no multiple of span {job.span}")
    command = sinter_command(sst2, job, folder, ["--max_steps", job.warm_up + job.timed, "--logging_steps", job.span],
                             device)
    marks = []

    def log_line(line, now):
        if line.startswith("{'loss'"):
            marks.append(now)

    code, output, error = run(command, seconds, environment, log_line)
    if code != 0:
        return failed(error if code is not None else f"it did not end in {seconds:.0f} s", command)
    marks = marks[max(job.warm_up // job.span - 1, 0):]
    spans = [1000 * (end - start) / job.span for start, end in zip(marks, marks[1:])]
    return step_figure(spans, job.batch, command, peak_mib=None, versions={"sinter": device_line(output)})


def sinter_whole(sst2, job, folder, environment, seconds):
    command = sinter_command(sst2, job, folder, ["--num_train_epochs", 3, "--logging_steps", 500])
    start = time.monotonic()
    code, output, error = run(command, seconds, environment)
    if code != 0:
        return failed(error if code is not None else f"it did not end in {seconds:.0f} s", command)
    return {"status": "measured", "seconds": time.monotonic() - start, "command": shlex.join(map(str, command)),
            "versions": {"sinter": device_line(output)}}


def adamw(kbench, environment, seconds):
    """The starred row of AdamW in kbench's table."""
    command = [kbench, "adamw"]
    code, output, error = run(command, seconds, environment)
    if code != 0:
        return failed(output.strip() or error, command)
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 9 and re.match(r"adamw\b", cells[0]) and cells[1].endswith("*"):
            return {"status": "measured", "percent_of_copy": float(cells[5]), "command": shlex.join(map(str, command)),
                    "versions": {"kernel": cells[0], "variant": cells[1].removesuffix(" *")}}
    return failed("kbench's table has no row of adamw", command)


def cpu_figure(rounds, versions, what):
    speeds = [result["samples_per_second"] for result in rounds]
    return {"status": "measured", "peak_mib": statistics.median(result["memory"] for result in rounds),
            "samples_per_s": {"median": statistics.median(speeds), "low": min(speeds), "high": max(speeds),
                              "rounds": len(speeds)}, "versions": versions, "command": what}


def cpu_sides(options, sides, rounds, scratch, environment):
    """side -> figure. The sides take turns, as in fine_tune.py; a side that failed does not go on."""
    functions = {SINTER: functools.partial(fine_tune.run_sinter, environment=environment), HF: fine_tune.run_hf}
    results, figures = {side: [] for side in sides}, {}
    what = f"fine_tune.py, {options.samples} sentences, {rounds} rounds in turns, {options.threads} threads"
    for _ in range(rounds):
        for side in sides:
            if side in figures:
                continue
            try:
                results[side].append(functions[side](options, options.threads, scratch))
            except fine_tune.Failed as failure:
                figures[side] = failed(failure, [what])
    return {side: figures.get(side) or cpu_figure(found, versions_of(found[0]), what)
            for side, found in results.items() if found or side in figures}
