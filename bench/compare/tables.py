"""The tables of run.sh, in Markdown, from a Record (figures.py). What nobody measured says so, from the same code."""
from jobs import ADAMW_GOAL, COMPILED, LOOP, SIDES, SINTER, TITLES, variants

NOT_YET = "not yet measured"


def number(value):
    """Three digits that count, no exponent: 0.123, 1.23, 12.3, 123, 12345."""
    for digits, below in ((3, 1), (2, 10), (1, 100)):
        if abs(value) < below:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def measured(figures):
    return {variant: figure for variant, figure in figures.items() if figure["status"] == "measured"}


def best(record, job, side):
    """(variant, figure) with the shortest step that was measured; (None, None) without one."""
    found = measured(record.of("step", job.name, side)) if record else {}
    if not found:
        return None, None
    variant = min(found, key=lambda name: found[name]["ms_per_step"]["median"])
    return variant, found[variant]


def missing(record, what, job, side, reasons):
    """Why there is no figure: it failed, this run says why not, or nobody measured it."""
    failed = [figure["reason"] for figure in (record.of(what, job.name, side) if record else {}).values()
              if figure["status"] == "failed"]
    if failed:
        return f"failed: {failed[0]}"
    return reasons.get(side, NOT_YET)


def judged(value, goal, unit, smaller_is_better):
    """"2.2 / 1.3 ms: aim met" of a (must, aim)."""
    must, aim = goal
    text = f"{must:g} / {aim:g}{unit}"
    if value is None:
        return text
    reached = [value <= bound if smaller_is_better else value >= bound for bound in goal]
    return text + (": aim met" if reached[1] else ": must met" if reached[0] else ": missed")


def when(figure, run):
    if figure["run"] == run:
        return "this run"
    return f"earlier run: {figure['date']}, commit {figure['commit']}"


def ratio(ours, theirs):
    """How many times as many samples a second; None where the figures are not of one commit."""
    if ours is None or theirs is None or ours["commit"] != theirs["commit"]:
        return None
    return ours["samples_per_s"] / theirs["samples_per_s"]


def spread(ms):
    return f"{number(ms['median'])} ({number(ms['low'])} to {number(ms['high'])})"


def step_row(record, job, side, run, reasons):
    variant, figure = best(record, job, side)
    ours = best(record, job, SINTER)[1]
    title = TITLES[side] + (f" ({variant})" if variant and len(variants(job, side)) > 1 else "")
    if figure is None:
        row = [title, missing(record, "step", job, side, reasons), "", ""]
    else:
        row = [title, spread(figure["ms_per_step"]), number(figure["samples_per_s"])]
        times = ratio(ours, figure) if side != SINTER else None
        other = ours is not None and side != SINTER and times is None
        row.append("not of one commit" if other else "" if times is None else f"{number(times)} times")
    if side == SINTER and job.goal_ms:
        row.append(judged(figure and figure["ms_per_step"]["median"], job.goal_ms, " ms", True))
    elif side in job.goal_ratios:
        times = ratio(ours, figure)
        row.append(judged(times, job.goal_ratios[side], " times", False))
    else:
        row.append("")
    if job.whole_steps:
        row.append("" if figure is None else f"{number(figure['ms_per_step']['median'] * job.whole_steps / 1000)} s")
        row.append(whole_cell(record, job, side))
    return row + ["" if figure is None else when(figure, run)]


def whole_cell(record, job, side):
    figures = record.of("whole", job.name, side) if record else {}
    found = measured(figures)
    if found:
        return f"{number(min(figure['seconds'] for figure in found.values()))} s"
    return missing(record, "whole", job, side, {})


def step_table(record, job, run, reasons):
    header = ["side", "ms a step: median (lowest to highest span)", "samples/s", "sinter is faster by",
              "goal: must / aim"]
    if job.whole_steps:
        header += [f"{job.whole_steps:,} steps, from a step's time", "the same, measured, whole process"]
    return table(header + ["when"], [step_row(record, job, side, run, reasons) for side in SIDES])


def variant_lines(record, job):
    """What the best of each rival was chosen from."""
    lines = []
    for side in (COMPILED, LOOP):
        found, shown, names = record.of("step", job.name, side) if record else {}, [], variants(job, side)
        for name in names:
            if name in found and found[name]["status"] == "measured":
                shown.append(f"{name}: {number(found[name]['ms_per_step']['median'])} ms")
            elif name in found:
                shown.append(f"{name}: failed ({found[name]['reason']})")
        rest = len(names) - len(shown)
        lines.append(f"{TITLES[side]}, {len(names)} variants: " + "; ".join(
            shown + ([f"{rest} {NOT_YET}"] if rest else [])) + ".")
    return "\n\n".join(lines)


def adamw_table(record, run):
    figures = measured(record.of("adamw", "adamw", SINTER) if record else {})
    figure = next(iter(figures.values()), None)
    percent = figure and figure["percent_of_copy"]
    return table(["kernel", "share of a plain copy's speed", "goal: must / aim", "when"], [[
        "fused AdamW over 110 million parameters", NOT_YET if figure is None else f"{number(percent)} %",
        judged(percent, ADAMW_GOAL, " %", False), "" if figure is None else when(figure, run)]])


def cpu_table(record, job, run, reasons):
    rows, sides = [], (SINTER, "hf")
    found = {side: next(iter(measured(record.of("cpu", job.name, side) if record else {}).values()), None)
             for side in sides}
    for side in sides:
        figure = found[side]
        if figure is None:
            rows.append([TITLES[side], missing(record, "cpu", job, side, reasons), "", "", "", ""])
            continue
        speed = figure["samples_per_s"]
        rows.append([TITLES[side], spread(speed), number(1000 * job.batch / speed["median"]), "",
                     number(figure["peak_mib"]), when(figure, run)])
        ours = found[SINTER]
        if side != SINTER and ours and ours["commit"] == figure["commit"]:
            rows[-1][3] = f"{number(ours['samples_per_s']['median'] / speed['median'])} times"
    return table(["side", "samples/s: median (lowest to highest)", "ms a step", "sinter is faster by",
                  "peak memory, MiB", "when"], rows)
