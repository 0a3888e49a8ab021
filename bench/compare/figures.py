"""The measured figures as files: what run.sh writes, and what it shows of earlier runs.

One JSON file for a device, compare_<device>.json:

    {"format": 1, "device": "NVIDIA H200", "kind": "cuda", "driver": "...", "host": "AMD EPYC ..., 16 cores",
     "figures": [
       {"what": "step", "job": "sst2", "side": "hf_compile", "variant": "default, pad 16", "status": "measured",
        "ms_per_step": {"median": 9.9, "low": 9.8, "high": 10.3, "spans": 9}, "samples_per_s": 1616.2,
        "peak_mib": 2700.0, "date": "2026-11-29 23:50", "run": "2026-11-29T23:48:02", "commit": "6ad61b7",
        "load": 0.1, "command": "...", "versions": {"torch": "...", "transformers": "..."}}]}

what: "step" (time of a step), "whole" (the whole job, its `seconds` from the start of the process to its end), "cpu"
(samples_per_s as {"median", "low", "high", "rounds"}), "adamw" (`percent_of_copy`). status: "measured", or "failed"
with a `reason`. There is one figure of each (what, job, side, variant); a later one replaces it. `run` is the start of
the run.sh that measured it, `load` the machine's load average just before. A "+" and four digits behind the
commit are changes.
"""
import json
import os
import pathlib
import re

FORMAT = 1


class BadFile(Exception):
    """A file of figures that cannot be read; says which and why."""


def key(figure):
    return figure["what"], figure["job"], figure["side"], figure["variant"]


def file_name(device):
    return "compare_" + re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_") + ".json"


class Record:
    """All figures of one device."""

    def __init__(self, device, kind, driver="", host="", figures=()):
        self.device, self.kind, self.driver, self.host = device, kind, driver, host
        self.figures = {}
        for figure in figures:
            self.add(figure)

    def add(self, figure):
        """The later one stays."""
        old = self.figures.get(key(figure))
        if old is None or old["run"] <= figure["run"]:
            self.figures[key(figure)] = figure

    def of(self, what, job, side):
        """variant -> figure."""
        return {k[3]: figure for k, figure in self.figures.items() if k[:3] == (what, job, side)}

    def save(self, folder):
        path = pathlib.Path(folder) / file_name(self.device)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, "device": self.device, "kind": self.kind, "driver": self.driver, "host": self.host,
                   "figures": list(self.figures.values())}
        scratch = path.with_suffix(".partial")
        scratch.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(scratch, path)
        return path


def load(path):
    """BadFile where it is not of this format."""
    try:
        content = json.loads(pathlib.Path(path).read_text())
        if content["format"] != FORMAT:
            raise BadFile(f"{path} has format {content['format']}, this program reads {FORMAT}")
        return Record(*(content[name] for name in ("device", "kind", "driver", "host", "figures")))
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(f"{path} is no file of figures: {error!r}") from error


def load_all(folders):
    """device -> Record of all files in these folders. BadFile as load."""
    records = {}
    for folder in folders:
        for path in sorted(pathlib.Path(folder).glob("compare_*.json")):
            record = load(path)
            if record.device in records:
                for figure in record.figures.values():
                    records[record.device].add(figure)
            else:
                records[record.device] = record
    return records
